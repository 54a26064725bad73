"""The learner's loop: admit what was rewarded, learn from it, publish what was learned, keep the state."""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

import numpy as np
import torch

from schemas.loop_file import Loop
from trainer.checkpoint import Checkpoint, usable_checkpoint, write_checkpoint
from trainer.evaluation.gate import NOT_FINITE
from trainer.metrics import LearnerMetrics
from trainer.pace import Pace
from trainer.patience import patiently
from trainer.publisher import Publisher
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import Stabilized

_LOG = logging.getLogger(__name__)

MAX_LEARN_SECONDS = 0.2
"""Of learning in a row; then the tail is read again, so that the newest decisions are learned from soon."""
MAX_PUBLISH_SHARE = 0.1
"""Of the learner's time."""
CHECKPOINT_EVERY_SECONDS = 5.0
IDLE_SECONDS = 0.05
MAX_FRESH = 1_024
"""Fresh decisions that the noise meter looks at, of one reading of the tail."""
NUM_UPDATES_TO_LEARN = 200
"""From so many updates on, a policy that scores all items the same has collapsed."""
_SMOOTHING = 0.05
_FORMAT = 3
"""Of the training state; another one is not gone on from."""


@dataclass(slots=True)
class Progress:
    """The loop's own part of the training state."""

    num_admitted: int = 0
    num_updates: int = 0
    num_scaled_at: int = 0
    """Admitted decisions when the scale of numbers was last set."""
    parent: str | None = None
    """The version published last."""


def training_kind(loop: Loop) -> str:
    """What a training state must be of to be gone on from: other parts have other tensors."""
    parts = loop.learner.model_dump(
        include={"agent", "estimator", "head", "ensemble_size", "calibration", "stabilizer"}
    )
    return " ".join([f"format {_FORMAT}", loop.hash, *map(str, parts.values())])


class LearnerLoop:
    """Not safe for several threads: it owns the replay, the learner and the random generator."""

    def __init__(
        self,
        loop: Loop,
        replay: Replay,
        make_learner: Callable[[], Stabilized],
        publisher: Publisher,
        *,
        folder: Path,
        rng: np.random.Generator,
        timer: Callable[[], float],
        metrics: LearnerMetrics,
    ) -> None:
        """With a new learner, from `make_learner`.

        Args:
            loop: the loop file.
            replay: an empty buffer, which draws from `rng`.
            make_learner: called again if the learner diverges.
            publisher: takes the policies.
            folder: where the training state is kept.
            rng: a part of that state.
            timer: seconds that never go back.
            metrics: what is counted.
        """
        self._settings = loop.learner
        self._kind = training_kind(loop)
        self._replay = replay
        self._make_learner = make_learner
        self._learner = make_learner()
        self._publisher = publisher
        self._folder = folder
        self._rng = rng
        self._timer = timer
        self._metrics = metrics
        self._progress = Progress()
        self._pace = Pace(loop.learner.decisions_per_update)
        self._owed_fits = 0.0  # updates of the estimator alone
        self._figures: dict[str, float] = {}
        self._num_updates_published = 0
        self._publish_at = -math.inf
        self._checkpoint_at = timer() + CHECKPOINT_EVERY_SECONDS

    def resume(self) -> None:
        """Goes on from the training state on disk, if it has one. Raises `StoreUnavailableError`."""
        checkpoint = usable_checkpoint(self._folder, self._kind)
        if checkpoint is not None:
            self._load(checkpoint)
            self._replay.refill(checkpoint.facts["revision"])
            _LOG.info("train: going on after %d updates", self._progress.num_updates)

    def run(self, stop: Event) -> None:
        """Steps until `stop` is set; what fails is done again later."""
        while not stop.is_set():
            was_busy = patiently(self.step, stop, self._metrics.failures)
            if not was_busy:
                stop.wait(IDLE_SECONDS)
        patiently(self.keep, stop, self._metrics.failures)

    def step(self) -> bool:
        """One round. Returns whether there was anything to learn from.

        Raises:
            StoreUnavailableError, OSError: the rest of the round is left for the next one.
        """
        num_admitted = self._admit()
        is_ready = len(self._replay) >= self._settings.min_decisions
        num_updates = self._learn() if is_ready else 0
        if self._progress.num_updates > self._num_updates_published and self._timer() >= self._publish_at:
            self._publish()
        if self._timer() >= self._checkpoint_at:
            self.keep()
        return num_admitted + num_updates > 0

    def _admit(self) -> int:
        num_skipped = self._replay.num_skipped
        num = self._replay.advance()
        if num:
            self._learner.observe(self._replay.newest(min(num, MAX_FRESH)))
        self._progress.num_admitted += num
        self._metrics.admitted.inc(num)
        self._metrics.skipped.inc(self._replay.num_skipped - num_skipped)
        self._metrics.dropped.inc(self._pace.owe(num))
        self._metrics.ready.set(self._replay.num_ready)
        return num

    def _learn(self) -> int:
        """Does the updates that are owed, for a short while. Returns how many."""
        self._rescale()
        num_before, started = self._progress.num_updates, self._timer()
        now = started
        while self._pace.is_behind and now - started < MAX_LEARN_SECONDS and self._update():
            seconds = self._timer() - now
            now += seconds
            self._pace.pay(seconds)
            self._progress.num_updates += 1
            self._metrics.update_seconds.observe(seconds)
        num = self._progress.num_updates - num_before
        self._metrics.updates.inc(num)
        return num

    def _update(self) -> bool:
        """One update; returns False while too little is ready."""
        batch = self._replay.sample(self._settings.batch_size)
        if batch is None:
            return False
        num_examples = self._replay.num_rewarded
        self._smooth(self._learner.update(batch, num_examples))
        # The estimator learns from impressions too that are not ready for the agent: in the share that they have; and
        # from all there were, where the agent takes several steps on the newest.
        self._owed_fits += self._settings.steps_per_update - self._replay.num_ready / num_examples
        while self._owed_fits >= 1 and (rewards := self._replay.sample_rewards(self._settings.batch_size)):
            self._owed_fits -= 1
            self._learner.fit(rewards, num_examples)
        return True

    def _smooth(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            before = self._figures.get(name, value)
            self._figures[name] = before + _SMOOTHING * (value - before)

    def _rescale(self) -> None:
        """Sets the scale of numbers before the first update, and again whenever the decisions have doubled: seldom, so
        that it is a steady ground to learn on, yet a start that was not typical is put right.
        """
        if self._progress.num_admitted >= 2 * self._progress.num_scaled_at:
            self._learner.rescale(self._replay.number_statistics())
            self._progress.num_scaled_at = max(1, self._progress.num_admitted)

    def _publish(self) -> None:
        started = self._timer()
        figures = self._figures | self._learner.figures()
        figures |= {"updates": self._progress.num_updates, "admitted_decisions": self._progress.num_admitted}
        has_learned = self._progress.num_updates >= NUM_UPDATES_TO_LEARN
        verdict = self._publisher.publish(self._learner, self._replay, figures, has_learned=has_learned)
        self._num_updates_published = self._progress.num_updates
        self._progress.parent = self._publisher.parent
        seconds = self._timer() - started
        self._publish_at = started + max(self._settings.publish_every_seconds, seconds / MAX_PUBLISH_SHARE)
        self._metrics.publish_seconds.observe(seconds)
        self._metrics.policies.labels("published" if verdict.passed else "rejected").inc()
        for name, value in (figures | verdict.metrics).items():
            self._metrics.figures.labels(name).set(value)
        if any(reason.startswith(NOT_FINITE) for reason in verdict.reasons):
            self._recover()

    def keep(self) -> None:
        """Writes the training state, unless it has diverged. Raises `OSError`."""
        self._checkpoint_at = self._timer() + CHECKPOINT_EVERY_SECONDS
        tensors = {f"learner.{name}": tensor for name, tensor in self._learner.state_dict().items()}
        if all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            facts = {
                "revision": self._replay.revision,
                "progress": asdict(self._progress),
                "rng": self._rng.bit_generator.state,
            }
            tensors["torch_rng"] = torch.get_rng_state()
            write_checkpoint(self._folder, Checkpoint(self._kind, tensors, facts))

    def _recover(self) -> None:
        """From a state that is not finite, which no further update would mend."""
        self._learner = self._make_learner()
        checkpoint = usable_checkpoint(self._folder, self._kind)
        if checkpoint is not None:
            self._load(checkpoint)
        self._figures.clear()
        self._num_updates_published = self._progress.num_updates
        _LOG.error("train: the learner diverged; it goes on from %s", "a checkpoint" if checkpoint else "new weights")

    def _load(self, checkpoint: Checkpoint) -> None:
        tensors = dict(checkpoint.tensors)
        torch.set_rng_state(tensors.pop("torch_rng"))
        self._learner.load_state_dict({name.removeprefix("learner."): tensor for name, tensor in tensors.items()})
        self._rng.bit_generator.state = checkpoint.facts["rng"]
        self._progress = Progress(**checkpoint.facts["progress"])
        self._publisher.parent = self._progress.parent
        self._num_updates_published = self._progress.num_updates
