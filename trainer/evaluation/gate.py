"""The sanity gate: what a policy must pass before it may serve (DESIGN §7.8). Pure; whatever fails has a name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.loop_file import Loop
from trainer.replay.replay import ProbeStates

MAX_REPLICA_ERROR = 1e-4
"""By how much the ranker's network may differ from the learner's, relative to scores above 1."""
NOT_FINITE = "weights_not_finite"
"""The name of the one failure that further learning cannot mend."""
_MIN_SPREAD = 1e-6
_SATURATED = 0.99

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Verdict:
    reasons: tuple[str, ...]
    """Why it may not serve, as "name: sentence"; empty: it may."""
    metrics: dict[str, float]
    """The figures looked at, all finite."""

    @property
    def passed(self) -> bool:
        return not self.reasons


def judge(
    loop: Loop, tensors: Mapping[str, Array], probe: ProbeStates, outputs: Array, replica: Array, *, has_learned: bool
) -> Verdict:
    """Judges a policy by its tensors and by what it does in the probe states.

    Args:
        loop: the loop file.
        tensors: the policy's tensors.
        probe: P recent states with their candidates.
        outputs: the learner's network there: scores [P, C], or actions [P, A].
        replica: the same from the network that rankers run.
        has_learned: whether enough was learned that equal scores everywhere mean a collapse.
    """
    if loop.action.kind == "slate":
        shown, shown_replica = outputs[probe.mask], replica[probe.mask]
        spreads = _spreads(probe, outputs)
        reasons = [*_of_scores(shown, loop.promotion.max_abs_score), *(_of_spreads(spreads) if has_learned else ())]
        metrics = {"score_mean": _mean(shown), "score_max_abs": _max_abs(shown), "score_spread": _mean(spreads)}
    else:
        shown, shown_replica = outputs, replica
        reasons = [*_of_actions(outputs)]
        metrics = {
            "action_mean_abs": _mean(np.abs(outputs)),
            "action_saturation": _mean(np.abs(outputs) > _SATURATED),
            "action_spread": _mean(outputs.std(axis=0)) if len(outputs) else 0.0,
        }
    error = _max_abs((shown - shown_replica) / np.maximum(1.0, np.abs(shown)))
    reasons = [*_of_tensors(tensors), *reasons, *_of_replica(error)]
    metrics["replica_error"] = error
    return Verdict(tuple(reasons), {name: value for name, value in metrics.items() if np.isfinite(value)})


def _of_tensors(tensors: Mapping[str, Array]) -> Iterator[str]:
    broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if broken:
        yield f"{NOT_FINITE}: {', '.join(broken)}"


def _of_scores(scores: Array, max_abs_score: float) -> Iterator[str]:
    if not np.isfinite(scores).all():
        yield "scores_not_finite: of the probe states' candidates"
    elif (largest := _max_abs(scores)) > max_abs_score:
        yield f"scores_diverged: |score| is up to {largest:g}, and promotion.max_abs_score is {max_abs_score:g}"


def _of_spreads(spreads: Array) -> Iterator[str]:
    if len(spreads) and np.isfinite(spreads).all() and spreads.max() < _MIN_SPREAD:
        yield f"scores_collapsed: all candidates score the same in all {len(spreads)} probe states"


def _of_actions(actions: Array) -> Iterator[str]:
    if not np.isfinite(actions).all():
        yield "actions_not_finite: in the probe states"
    elif _max_abs(actions) > 1:
        yield f"actions_out_of_range: up to {_max_abs(actions):g}, outside of [-1, 1]"


def _of_replica(error: float) -> Iterator[str]:
    if not error <= MAX_REPLICA_ERROR:  # so that NaN fails too
        yield f"replica_differs: the rankers' network gives outputs that differ by {error:g}"


def _spreads(probe: ProbeStates, scores: Array) -> Array:
    """Highest less lowest score, of each probe state that has candidates which differ in what the network sees."""
    first = probe.mask.argmax(axis=1)[:, None]  # [P, 1]
    differs = _differs(probe.item_slots, first) | _differs(probe.item_numbers, first)  # [P, C]
    has_choice = (differs & probe.mask).any(axis=1)
    highest = np.where(probe.mask, scores, -np.inf)[has_choice].max(axis=1, initial=-np.inf)
    lowest = np.where(probe.mask, scores, np.inf)[has_choice].min(axis=1, initial=np.inf)
    return np.asarray(highest - lowest, np.float32)


def _differs(items: NDArray[np.generic], first: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether a candidate's columns [P, C, F] differ from those of the first one, [P, C]."""
    reference = np.take_along_axis(items, first[:, :, None], axis=1)
    return np.asarray((items != reference).any(axis=2))


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean()) if values.size else 0.0


def _max_abs(values: NDArray[np.floating]) -> float:
    return float(np.abs(values).max()) if values.size else 0.0
