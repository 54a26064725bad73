"""From the learner to the rankers: a policy is judged, written, registered and promoted, and old ones go."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from policies.files import Golden, golden_outputs, write_policy
from policies.index import INDEX_THRESHOLD, IndexTensors
from policies.networks import ActorNetwork, SlateNetwork, Tensors
from schemas.loop_file import Loop
from storage.registry import PolicyRegistry
from storage.reward_tail import TrainingRow
from trainer.evaluation.gate import Verdict, judge
from trainer.item_index import item_index
from trainer.replay.replay import FirstTrained, ProbeStates, Replay
from trainer.rewards.stabilizers import Stabilized

_LOG = logging.getLogger(__name__)

NUM_PROBES = 32
NUM_QUANTILES = 256


class TrainingLog(Protocol):
    """Where it is kept what trained which policy; `storage.reward_tail.RewardTail` is one."""

    def write_trainings(self, rows: Sequence[TrainingRow]) -> None: ...


class Publisher:
    """Publishing again after an error is harmless: it makes another version."""

    parent: str | None = None
    """The version published last, from which the next one goes on."""

    def __init__(
        self,
        loop: Loop,
        folder: Path,
        registry: PolicyRegistry,
        trainings: TrainingLog,
        clock: Callable[[], float],
        *,
        keep_policies: int,
        index_threshold: int = INDEX_THRESHOLD,
    ) -> None:
        self._loop = loop
        self._folder = folder
        self._registry = registry
        self._trainings = trainings
        self._clock = clock
        self._keep_policies = keep_policies
        self._index_threshold = index_threshold
        self._trained: FirstTrained | None = None  # of a publication that failed half-way

    def publish(self, learner: Stabilized, replay: Replay, figures: dict[str, float], *, has_learned: bool) -> Verdict:
        """Writes a policy and, if the gate lets it pass, promotes it unless the champion is pinned.

        Args:
            learner: whose policy it is.
            replay: where the probe states, and the decisions that trained it, come from.
            figures: what the manifest says of it beside the gate's figures.
            has_learned: whether enough was learned that equal scores everywhere mean a collapse.

        Raises:
            StoreUnavailableError, OSError: it does not serve, or the trainings are not written yet; do it again.
        """
        version = self._registry.next_version()
        tensors, probe = learner.policy_tensors(), _trimmed(replay.probe(NUM_PROBES))
        golden = _golden(probe, learner)
        with np.errstate(all="ignore"):  # what is not finite is the gate's to find
            network = _network(self._loop, tensors)
            replica = golden_outputs(network, golden)
            verdict = judge(self._loop, tensors, probe, golden.outputs, replica, has_learned=has_learned)
        if verdict.passed and self._trained is None:
            self._trained = replay.first_trained()
        manifest = write_policy(
            self._folder / version,
            tensors,
            golden,
            version=version,
            parent=self.parent,
            loop_hash=self._loop.hash,
            created_at=self._clock(),
            metrics=figures | verdict.metrics,
            revision=replay.revision,
            final_at=_quantiles(self._trained.final_at) if verdict.passed and self._trained else [],
            index=self._index(network, replay) if verdict.passed else None,
        )
        self._registry.publish(manifest, "published" if verdict.passed else "rejected")
        if verdict.passed:
            self._promote(version)
            self._tell_trainings(version, learner, replay)
        else:
            _LOG.error("train: policy %s is rejected: %s", version, "; ".join(verdict.reasons))
        self._prune()
        return verdict

    def _index(self, network: SlateNetwork | ActorNetwork, replay: Replay) -> IndexTensors | None:
        """Only two towers have vectors by whose product items score."""
        if isinstance(network, ActorNetwork) or self._loop.network.interaction != "dot":
            return None
        return item_index(network, replay, self._index_threshold)

    def _promote(self, version: str) -> None:
        self.parent = version
        if self._loop.promotion.automatic and not self._registry.promote_unless_pinned(version):
            _LOG.info("train: policy %s is published, not promoted: the champion is pinned", version)

    def _tell_trainings(self, version: str, learner: Stabilized, replay: Replay) -> None:
        if self._trained is not None and self._trained.decision_ids:
            self._trainings.write_trainings([*_training_rows(version, self._trained, learner, replay)])
        self._trained = None

    def _prune(self) -> None:
        if prunable := self._registry.prunable(self._keep_policies):
            for version in self._registry.mark_pruned(prunable):
                shutil.rmtree(self._folder / version, ignore_errors=True)


def _network(loop: Loop, tensors: Tensors) -> SlateNetwork | ActorNetwork:
    return SlateNetwork(loop, tensors) if loop.action.kind == "slate" else ActorNetwork(loop, tensors)


def _golden(probe: ProbeStates, learner: Stabilized) -> Golden:
    # The replica knows no mask: where items see each other, both must score the padding as items too.
    outputs = learner.act(replace(probe, mask=np.ones_like(probe.mask)))
    return Golden(probe.state_slots, probe.state_numbers, probe.item_slots, probe.item_numbers, outputs=outputs)


def _trimmed(probe: ProbeStates) -> ProbeStates:
    """Without the columns of candidates that are padding in every state."""
    columns = int(probe.mask.any(axis=0).sum())
    return replace(
        probe,
        item_slots=probe.item_slots[:, :columns],
        item_numbers=probe.item_numbers[:, :columns],
        mask=probe.mask[:, :columns],
    )


def _quantiles(times: NDArray[np.float64]) -> list[float]:
    shares = np.linspace(0, 1, min(NUM_QUANTILES, len(times)))
    return [float(time) for time in np.quantile(times, shares, method="nearest")] if len(times) else []


def _training_rows(version: str, trained: FirstTrained, learner: Stabilized, replay: Replay) -> Iterator[TrainingRow]:
    """By position up to the last impression, None where there was none."""
    batch = replay.batch_of(trained.rows)
    estimates, stabilized = learner.estimator.predict(batch), learner.rewards(batch)
    of_row: dict[int, tuple[list[float | None], list[float | None]]] = {int(row): ([], []) for row in trained.rows}
    for row, position, *values in zip(
        batch.rows.tolist(), batch.positions.tolist(), estimates.tolist(), stabilized.tolist(), strict=True
    ):
        for column, value in zip(of_row[row], values, strict=True):
            column += [*[None] * (position - len(column)), value]
    for decision_id, row in zip(trained.decision_ids, trained.rows, strict=True):
        yield decision_id, version, *of_row[int(row)]
