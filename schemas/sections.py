"""The sections of a loop file, each typed by itself. `schemas.loop_file` puts them together."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.kinds import AGENTS, CALIBRATIONS, ESTIMATORS, HEADS, STABILIZERS

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('a duration is a text like "10s", "30m", "500ms", "2h", "1d"')  # noqa: TRY004 pydantic wants ValueError
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError('a duration is a number and a unit, as in "10s", "30m", "500ms", "2h", "1d"')
    return float(match[1]) * _UNIT_SECONDS[match[2]]


Seconds = Annotated[float, BeforeValidator(_seconds)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False, allow_inf_nan=False)


# ------------------------------------------------------------------ features


class NumberFeature(Section):
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


class CategoryFeature(Section):
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


class ItemsFeature(Section):
    """Recent item ids, oldest first; the newest `length` are kept. They share the embedding of `[item] id`."""

    kind: Literal["items"]
    length: int = Field(ge=1, le=1_000)


class VectorFeature(Section):
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


class SlateAction(Section):
    kind: Literal["slate"]
    size: int = Field(ge=1, le=1_000)


class WeightsAction(Section):
    kind: Literal["weights"]
    dim: int = Field(ge=1, le=4_096)


Action = Annotated[SlateAction | WeightsAction, Field(discriminator="kind")]

_RewardOfOne = Annotated[float, Field(ge=-1e6, le=1e6)]


class Reward(Section):
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


class Session(Section):
    timeout_seconds: Annotated[Seconds, Field(gt=0)] = Field(alias="timeout", default=1800.0)
    ends: tuple[str, ...] = ()


class Network(Section):
    """The shape of the policy's network: two towers over embeddings (DESIGN §8)."""

    interaction: Literal["dot", "mlp", "attention"] = "dot"
    embedding_dim: int = Field(default=8, ge=1, le=512)
    hidden: tuple[Annotated[int, Field(ge=1, le=4_096)], ...] = (32,)
    vector_dim: int = Field(default=16, ge=1, le=512)
    layer_norm: bool = False


class Learner(Section):
    """What learns, and its settings. The defaults suit a product with little traffic, where every decision counts; with
    much of it the learner does what its time allows, and leaves the rest of the updates that it owes.
    """

    agent: str
    estimator: str = "mlp"
    head: str = "auto"
    ensemble_size: int = Field(default=1, ge=1, le=100)
    calibration: str = "none"
    stabilizer: str = "blend"
    """Where the loop file names none, it has that of `schemas.kinds.DEFAULT_STABILIZERS`."""
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
        parts: dict[str, tuple[str, ...]] = {
            "agent": tuple(AGENTS),
            "estimator": tuple(ESTIMATORS),
            "head": HEADS,
            "calibration": CALIBRATIONS,
            "stabilizer": STABILIZERS,
        }
        for key, known in parts.items():
            if getattr(self, key) not in known:
                raise ValueError(f"{key} = {getattr(self, key)!r} is not known; use one of {', '.join(known)}")
        return self


class _Exploration(Section):
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


class Promotion(Section):
    """The sanity gate of the learner; a policy that fails it is published as rejected and never serves."""

    automatic: bool = True
    max_abs_score: float = Field(default=1e4, gt=0)
