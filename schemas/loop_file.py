"""The loop file: one learning problem, described once (DESIGN §4).

`read_loop` raises `LoopFileError`, whose text names each wrong key, the value found and what would be right.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from schemas.kinds import (
    AGENTS,
    DEFAULT_STABILIZERS,
    ESTIMATORS,
    EXPLORATIONS,
    SHARING_STABILIZERS,
    STABILIZERS,
    EstimatorKind,
)
from schemas.sections import (
    Action,
    Exploration,
    ItemFeature,
    Learner,
    Network,
    Promotion,
    Reward,
    Section,
    Session,
    StateFeature,
)


class LoopFileError(ValueError):
    """A loop file that cannot be used; the text has one line a mistake."""


class Loop(Section):
    """A whole loop file. `loop.hash` names what shapes the network."""

    name: str = Field(min_length=1, max_length=100)
    state: dict[str, StateFeature] = Field(default_factory=dict)
    item: dict[str, ItemFeature] = Field(default_factory=dict)
    action: Action
    reward: Reward
    session: Session = Session()
    network: Network = Network()
    learner: Learner
    exploration: Exploration
    promotion: Promotion = Promotion()

    @model_validator(mode="before")
    @classmethod
    def _with_stabilizer(cls, tables: Any) -> Any:
        """`tables`, with a stabilizer for the kind of action where none is named; their mistakes come out later."""
        match tables:
            case {"action": {"kind": str(kind)}, "learner": dict(learner)} if kind in DEFAULT_STABILIZERS:
                return {**tables, "learner": {"stabilizer": DEFAULT_STABILIZERS[kind], **learner}}
        return tables

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
