"""What a loop file may name: agents, estimators and the rest, and what each is for. `schemas.loop_file` goes by it."""

from dataclasses import dataclass


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
DEFAULT_STABILIZERS: dict[str, str] = {"slate": "blend", "weights": "raw"}
"""By the kind of action: those that cost in no regime of the studies (studies/RESULTS.md). An item comes again and
again, and its estimate pools what came of it; no two vectors of weights are alike, and there every stabilizer cost.
"""
EXPLORATIONS: dict[str, tuple[str, ...]] = {"slate": ("softmax", "greedy"), "weights": ("gaussian",)}
