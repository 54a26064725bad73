"""The loop file: one learning problem, described once (DESIGN §4).

`read_loop` raises `LoopFileError`, whose text names each wrong key, the value found and what would be right.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


class LoopFileError(ValueError):
    """A loop file that cannot be used; the text has one line a mistake."""


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('a duration is a text like "10s", "30m", "500ms", "2h", "1d"')  # noqa: TRY004 pydantic wants ValueError
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError('a duration is a number and a unit, as in "10s", "30m", "500ms", "2h", "1d"')
    return float(match[1]) * _UNIT_SECONDS[match[2]]


Seconds = Annotated[float, BeforeValidator(_seconds)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False, allow_inf_nan=False)


# ------------------------------------------------------------------ features


class NumberFeature(_Section):
    """A number, clipped to [min, max]. `max` alone implies `min = 0`; with neither it is scaled as data come."""

    kind: Literal["number"]
    min: float | None = None
    max: float | None = None
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        if self.scale == "log" and self.low is None:
            raise ValueError('scale = "log" needs a min or a max')
        if self.low is not None and self.max is not None and self.low >= self.max:
            raise ValueError(f"min {self.low} must lie below max {self.max}")
        return self

    @property
    def low(self) -> float | None:
        """The lower bound, None where unbounded."""
        return 0.0 if self.min is None and self.max is not None else self.min


class CategoryFeature(_Section):
    """One of `values` (texts), of 0 … size − 1 (integers), or anything hashed into `buckets`; index 0: unknown."""

    kind: Literal["category"]
    values: tuple[str, ...] | None = None
    size: int | None = Field(default=None, ge=1, le=10_000_000)
    buckets: int | None = Field(default=None, ge=1, le=10_000_000)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(x is not None for x in (self.values, self.size, self.buckets)) != 1:
            raise ValueError("a category has exactly one of values, size, buckets")
        if self.values is not None and (not self.values or len(set(self.values)) < len(self.values)):
            raise ValueError("values must not be empty and not repeat")
        return self

    @property
    def cardinality(self) -> int:
        """Rows of its embedding table: its values and one for the unknown."""
        return 1 + (len(self.values) if self.values is not None else self.size or self.buckets or 0)


class CategoriesFeature(CategoryFeature):
    """A set of categories, at most `length` of them; more are cut."""

    kind: Literal["categories"]  # type: ignore[assignment]  # narrows the discriminator
    length: int = Field(ge=1, le=1_000)


class ItemsFeature(_Section):
    """Recent item ids, oldest first; the newest `length` are kept. They share the embedding of `[item] id`."""

    kind: Literal["items"]
    length: int = Field(ge=1, le=1_000)


class VectorFeature(_Section):
    """`dim` numbers, used as they are."""

    kind: Literal["vector"]
    dim: int = Field(ge=1, le=4_096)


ItemFeature = Annotated[
    NumberFeature | CategoryFeature | CategoriesFeature | VectorFeature, Field(discriminator="kind")
]
StateFeature = Annotated[
    NumberFeature | CategoryFeature | CategoriesFeature | VectorFeature | ItemsFeature, Field(discriminator="kind")
]

# ------------------------------------------------------------------ sections


class SlateAction(_Section):
    kind: Literal["slate"]
    size: int = Field(ge=1, le=1_000)


class WeightsAction(_Section):
    kind: Literal["weights"]
    dim: int = Field(ge=1, le=4_096)


Action = Annotated[SlateAction | WeightsAction, Field(discriminator="kind")]

_RewardOfOne = Annotated[float, Field(ge=-1e6, le=1e6)]


class Reward(_Section):
    """Every other key of `[reward]` is a feedback kind with the reward of one event of it."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, _RewardOfOne]

    default: float = 0.0
    aggregate: Literal["sum", "max", "first", "last"] = "sum"
    wait_seconds: Seconds = Field(alias="wait", gt=0)
    closes: tuple[str, ...] = ()
    seen: str | None = None

    @property
    def of_kind(self) -> dict[str, float]:
        """The reward of one event of value 1, by kind."""
        return self.__pydantic_extra__

    @model_validator(mode="after")
    def _kinds(self) -> Self:
        if not self.of_kind:
            raise ValueError("name at least one feedback kind with its reward, as in click = 1.0")
        return self


class Session(_Section):
    timeout_seconds: Annotated[Seconds, Field(gt=0)] = Field(alias="timeout", default=1800.0)
    ends: tuple[str, ...] = ()


class Network(_Section):
    """The shape of the policy's network: two towers over embeddings (DESIGN §8)."""

    interaction: Literal["dot", "mlp", "attention"] = "dot"
    embedding_dim: int = Field(default=8, ge=1, le=512)
    hidden: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] = (32,)
    vector_dim: int = Field(default=16, ge=1, le=512)
    layer_norm: bool = False


@dataclass(frozen=True, slots=True)
class AgentKind:
    """What an agent is for, and what it wants to learn from."""

    actions: tuple[str, ...]
    """Kinds of action."""
    interactions: tuple[str, ...] = ("dot", "mlp")
    """Kinds of `[network] interaction`, for `slate`."""
    explorations: tuple[str, ...] = ("softmax", "greedy", "gaussian")
    """Kinds of exploration under which it learns."""
    on_policy: bool = False
    """It takes each impression once, and only while the policy that chose it is young."""
    needs_candidates: bool = False
    """It looks at what else could have been chosen."""


AGENTS: dict[str, AgentKind] = {
    "dqn": AgentKind(("slate",)),
    "ddpg": AgentKind(("weights",)),
    "drn": AgentKind(("slate",)),
    "drr-att": AgentKind(("slate",), interactions=("attention",), needs_candidates=True),
    "dqn-att": AgentKind(("slate",), interactions=("attention",), needs_candidates=True),
    "td3": AgentKind(("weights",)),
    "sac": AgentKind(("weights",)),
    "sac-discrete": AgentKind(("slate",), needs_candidates=True),
    "ppo": AgentKind(("slate", "weights"), explorations=("softmax", "gaussian"), on_policy=True, needs_candidates=True),
    "reinforce": AgentKind(("slate", "weights"), explorations=("softmax", "gaussian"), needs_candidates=True),
}
"""Agents by name. Add an agent here and in `trainer.agents`."""


@dataclass(frozen=True, slots=True)
class EstimatorKind:
    """What a reward estimator is for."""

    actions: tuple[str, ...] = ("slate", "weights")
    """Kinds of action."""
    needs_id: bool = False
    """It looks at the item's id."""
    needs_history: bool = False
    """It looks at a feature of the state that holds items."""
    has_network: bool = True
    """It fits a `head`, and trains embeddings that SRS2 can share."""


ESTIMATORS: dict[str, EstimatorKind] = {
    "mlp": EstimatorKind(),
    "fm": EstimatorKind(),
    "din": EstimatorKind(("slate",), needs_id=True, needs_history=True),
    "mean": EstimatorKind(("slate",), needs_id=True, has_network=False),
}
"""Reward estimators by name. Add one here and in `trainer.rewards`."""
HEADS: tuple[str, ...] = ("auto", "bernoulli", "categorical", "gaussian", "poisson", "ziln")
"""Distributions of the reward that estimators with a network fit; `auto` is `bernoulli`."""
CALIBRATIONS: tuple[str, ...] = ("none", "temperature", "isotonic")
SHARING_STABILIZERS: tuple[str, ...] = ("srs2", "srs2-residual")
"""Those of an agent that sees through the estimator's embeddings."""
STABILIZERS: tuple[str, ...] = ("raw", "srs", "srs2", "srs2-residual", "doubly-robust", "blend")
EXPLORATIONS: dict[str, tuple[str, ...]] = {"slate": ("softmax", "greedy"), "weights": ("gaussian",)}


class Learner(_Section):
    """What learns, and its settings. The defaults suit a product with little traffic, where every decision counts; with
    much of it the learner does what its time allows, and leaves the rest of the updates that it owes.
    """

    agent: str
    estimator: str = "mlp"
    head: str = "auto"
    ensemble_size: int = Field(default=1, ge=1, le=100)
    calibration: str = "none"
    stabilizer: str = "srs"
    discount: float = Field(default=0.9, ge=0, lt=1)
    batch_size: int = Field(default=256, ge=1, le=65_536)
    decisions_per_update: float = Field(default=4.0, gt=0)
    learning_rate: float = Field(default=3e-3, gt=0)
    critic_learning_rate: float | None = Field(default=None, gt=0)
    estimator_learning_rate: float = Field(default=3e-3, gt=0)
    polyak: float = Field(default=0.03, gt=0, le=1)
    id_penalty: float = Field(default=10.0, ge=0)
    estimator_id_penalty: float = Field(default=200.0, ge=0)
    action_penalty: float = Field(default=0.3, ge=0)
    actor_delay: int = Field(default=2, ge=1)
    smoothing_sd: float = Field(default=0.2, ge=0)
    entropy_per_dim: float = Field(default=-1.0, lt=0.69)
    entropy_share: float = Field(default=0.3, gt=0, lt=1)
    gae_lambda: float = Field(default=0.6, ge=0, le=1)
    epochs: int = Field(default=4, ge=1, le=100)
    minibatch_size: int = Field(default=256, ge=1, le=65_536)
    clip: float = Field(default=0.2, gt=0, lt=1)
    entropy_weight: float = Field(default=0.01, ge=0)
    max_weight: float = Field(default=5.0, ge=1)
    buffer_size: int = Field(default=1_000_000, ge=1_000)
    min_decisions: int = Field(default=100, ge=1)
    max_candidates: int = Field(default=64, ge=1, le=1_024)
    publish_every_seconds: Seconds = Field(alias="publish_every", default=2.0)
    seed: int = Field(default=0, ge=0)

    @property
    def steps_per_update(self) -> int:
        """Gradient steps in one update of the agent: the estimator is owed as many."""
        if not AGENTS[self.agent].on_policy:
            return 1
        return self.epochs * max(1, round(self.batch_size / self.minibatch_size))

    @model_validator(mode="after")
    def _known(self) -> Self:
        parts: dict[str, Iterable[str]] = {
            "agent": AGENTS,
            "estimator": ESTIMATORS,
            "head": HEADS,
            "calibration": CALIBRATIONS,
            "stabilizer": STABILIZERS,
        }
        for key, known in parts.items():
            if getattr(self, key) not in known:
                raise ValueError(f"{key} = {getattr(self, key)!r} is not known; use one of {', '.join(known)}")
        return self


class _Exploration(_Section):
    control: float = Field(default=0.0, ge=0, le=1)


class SoftmaxExploration(_Exploration):
    """Each position: (1 − epsilon) · softmax(Q / temperature) + epsilon · uniform, over what is left."""

    kind: Literal["softmax"]
    temperature: float = Field(default=0.1, gt=0)
    epsilon: float = Field(default=0.05, ge=0, le=1)


class GreedyExploration(_Exploration):
    """ε-greedy: each position the best of what is left, or with probability epsilon a uniform one."""

    kind: Literal["greedy"]
    epsilon: float = Field(default=0.1, ge=0, le=1)


class GaussianExploration(_Exploration):
    """Truncated normal noise: of sd `sd`, or with probability `wide_share` of sd `wide_sd`; the mixture is logged."""

    kind: Literal["gaussian"]
    sd: float = Field(default=0.05, gt=0)
    wide_sd: float = Field(default=0.3, gt=0)
    wide_share: float = Field(default=0.1, ge=0, le=1)


Exploration = Annotated[SoftmaxExploration | GreedyExploration | GaussianExploration, Field(discriminator="kind")]


class Promotion(_Section):
    """The sanity gate of the learner; a policy that fails it is published as rejected and never serves."""

    automatic: bool = True
    max_abs_score: float = Field(default=1e4, gt=0)


class Loop(_Section):
    """A whole loop file. `loop.hash` names what shapes the network."""

    name: str = Field(min_length=1, max_length=100)
    state: dict[str, StateFeature] = {}
    item: dict[str, ItemFeature] = {}
    action: Action
    reward: Reward
    session: Session = Session()
    network: Network = Network()
    learner: Learner
    exploration: Exploration
    promotion: Promotion = Promotion()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if problems := list(_misfits(self)):
            raise ValueError("; ".join(problems))
        return self

    @property
    def feedback_kinds(self) -> frozenset[str]:
        """The kinds that `/feedback` takes: those with a reward, `seen` and `ends`."""
        seen = () if self.reward.seen is None else (self.reward.seen,)
        return frozenset((*self.reward.of_kind, *seen, *self.session.ends))

    def describes_same(self, other: "Loop") -> bool:
        """Whether both speak of the same states, items and actions, so that one product can talk to either."""
        return (self.state, self.item, self.action) == (other.state, other.item, other.action)

    @property
    def hash(self) -> str:
        """16 hex digits over what shapes the network: `[state]`, `[item]`, `[action]`, `[network]`.

        The order of features matters, as it does to the network.
        """
        shape = {key: self.model_dump(mode="json")[key] for key in ("state", "item", "action", "network")}
        return hashlib.sha256(json.dumps(shape, separators=(",", ":")).encode()).hexdigest()[:16]


def _misfits(loop: Loop) -> Iterator[str]:
    """What is wrong between sections, each as a sentence that names the keys."""
    kind, agent = loop.action.kind, loop.learner.agent
    agents = [name for name, agent_kind in AGENTS.items() if kind in agent_kind.actions]
    if agent not in agents:
        yield f"learner.agent = {agent!r} does not fit action.kind = {kind!r}; use {', '.join(agents)}"
    elif kind == "slate" and (found := loop.network.interaction) not in AGENTS[agent].interactions:
        fits = ", ".join(AGENTS[agent].interactions)
        yield f"network.interaction = {found!r} does not fit learner.agent = {agent!r}; use {fits}"
    yield from _exploration_misfits(loop)
    yield from _estimator_misfits(loop)
    if kind == "slate" and not loop.item:
        yield '[item] is empty; a slate needs at least id = { kind = "category", buckets = 65536 }'
    id_feature = loop.item.get("id")
    if id_feature is not None and id_feature.kind != "category":
        yield 'item.id must be a category, as in { kind = "category", buckets = 65536 }'
    for name, feature in loop.state.items():
        if feature.kind == "items" and id_feature is None:
            yield f"state.{name} holds items, so [item] needs an id to embed them by"
    for name in loop.reward.closes:
        if name not in loop.feedback_kinds:
            yield f"reward.closes names {name!r}, which is no kind of [reward] or session.ends"


def _exploration_misfits(loop: Loop) -> Iterator[str]:
    """What is wrong between exploration and the rest."""
    kind, agent, explores = loop.action.kind, loop.learner.agent, loop.exploration.kind
    if explores not in EXPLORATIONS[kind]:
        fits = ", ".join(EXPLORATIONS[kind])
        yield f"exploration.kind = {explores!r} does not fit action.kind = {kind!r}; use {fits}"
    elif explores not in AGENTS[agent].explorations:
        fits = ", ".join(each for each in EXPLORATIONS[kind] if each in AGENTS[agent].explorations)
        yield f"exploration.kind = {explores!r} does not fit learner.agent = {agent!r}; use {fits}"


def _estimator_misfits(loop: Loop) -> Iterator[str]:
    """What is wrong between the estimator and the rest."""
    learner, fits = loop.learner, [name for name, kind in ESTIMATORS.items() if _estimator_fits(loop, kind)]
    if learner.estimator not in fits:
        needs = 'action.kind = "slate"' + ", an item.id" * ESTIMATORS[learner.estimator].needs_id
        needs += ' and a state feature of kind "items"' * ESTIMATORS[learner.estimator].needs_history
        yield f"learner.estimator = {learner.estimator!r} needs {needs}; use {', '.join(fits)}"
    if ESTIMATORS[learner.estimator].has_network:
        return
    if learner.stabilizer in SHARING_STABILIZERS:
        others = ", ".join(name for name in STABILIZERS if name not in SHARING_STABILIZERS)
        yield (
            f"learner.stabilizer = {learner.stabilizer!r} shares embeddings, of which learner.estimator = "
            f"{learner.estimator!r} trains none; use {others}"
        )
    if learner.head != "auto":
        yield f"learner.head = {learner.head!r} does not fit learner.estimator = {learner.estimator!r}; use auto"


def _estimator_fits(loop: Loop, kind: EstimatorKind) -> bool:
    has_history = any(feature.kind == "items" for feature in loop.state.values())
    return (
        loop.action.kind in kind.actions
        and (has_history or not kind.needs_history)
        and ("id" in loop.item or not kind.needs_id)
    )


def parse_loop(text: str, source: str = "loop file") -> Loop:
    """A loop from TOML text; raises `LoopFileError`."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LoopFileError(f"{source} is not TOML: {error}") from error
    try:
        return Loop.model_validate(data)
    except ValidationError as error:
        raise LoopFileError("\n".join(_error_lines(source, error))) from error


def read_loop(path: Path) -> Loop:
    """A loop from a file; raises `LoopFileError`, also where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoopFileError(f"{path} cannot be read: {error}") from error
    return parse_loop(text, str(path))


def _error_lines(source: str, error: ValidationError) -> list[str]:
    lines = []
    for each in error.errors(include_url=False):
        path = [str(part) for part in each["loc"]]
        key = ".".join(part for i, part in enumerate(path) if not _is_tag(path, i))
        given = f" (found {each['input']!r})" if path and not isinstance(each["input"], dict) else ""
        lines.append(f"{source}: {key or 'loop'}: {each['msg'].removeprefix('Value error, ')}{given}")
    return lines


def _is_tag(path: list[str], i: int) -> bool:
    """Whether path[i] is the value of a `kind`, which pydantic puts into the path though the file has no such key."""
    return (i == 1 and path[0] in {"action", "exploration"}) or (i == 2 and path[0] in {"state", "item"})
