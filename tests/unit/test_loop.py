"""The learner's loop, round by round: on a tail in memory, a registry and policy files on disk, and a timer by hand."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, event

from policies.files import read_manifest, read_policy
from policies.policy import WeightsPolicy
from schemas.loop_file import Loop
from storage.database import StoreUnavailableError, migrate, open_store
from storage.registry import PolicyRegistry
from storage.reward_tail import RewardedDecision, RewardTail
from storage.story import decision_story
from tests.unit.replay.worlds import ReplayWorld, decided, slate_loop, weights_loop
from trainer.checkpoint import FILE
from trainer.evaluation.gate import Verdict
from trainer.loop import CHECKPOINT_EVERY_SECONDS, LearnerLoop
from trainer.metrics import LearnerMetrics
from trainer.publisher import Publisher
from trainer.replay.replay import Replay
from trainer.rewards.stabilizers import Stabilized, stabilized_agent

START = 1_800_000_000.0


class Timer:
    """Stands still, but for `tick_seconds` each time it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tick_seconds = 0.0

    def __call__(self) -> float:
        self.now += self.tick_seconds
        return self.now


class World:
    """A learner; decisions come in pairs of impressions, every 5 seconds in one endless session."""

    def __init__(self, folder: Path, loop: Loop, keep_policies: int = 20) -> None:
        migrate(f"sqlite:///{folder / 'steadyrank.db'}")
        self.engine = open_store(f"sqlite:///{folder / 'steadyrank.db'}")
        self.folder = folder
        self.loop = loop
        self.keep_policies = keep_policies
        self.source = ReplayWorld(loop)
        self.registry = PolicyRegistry(self.engine, lambda: START)
        self.metrics = LearnerMetrics(CollectorRegistry())
        self.timer = Timer()
        self.num_decided = 0
        self.learner = self.started()

    def started(self, seed: int = 0) -> LearnerLoop:
        """Another process, as it starts."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        publisher = Publisher(
            self.loop,
            self.folder / "policies",
            self.registry,
            RewardTail(self.engine),
            lambda: START,
            keep_policies=self.keep_policies,
        )
        learner = LearnerLoop(
            self.loop,
            Replay(self.loop, self.source.tail, self.source.catalogue, 10_000, rng),
            lambda: stabilized_agent(self.loop),
            publisher,
            folder=self.folder / "training",
            rng=rng,
            timer=self.timer,
            metrics=self.metrics,
        )
        learner.resume()
        return learner

    def decide(self, num: int, **changes: object) -> None:
        made = [self._decision(**changes) for _ in range(num)]
        self.source.tail.write(*made)

    def _decision(self, **changes: object) -> RewardedDecision:
        self.num_decided += 1
        n = self.num_decided
        return decided(f"d{n}", 5.0 * n, **({"rewards": (float(n % 2), float(n % 3 == 0))} | changes))

    def num_updates(self) -> int:
        return self.learner._progress.num_updates

    def versions(self) -> list[str]:
        return [row.version for row in self.registry.listing()]

    def champion(self) -> str | None:
        champion = self.registry.champion()
        return None if champion is None else champion.version


LOOP = slate_loop(batch_size=16, decisions_per_update=5, min_decisions=20, stabilizer="srs")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, LOOP)
    yield world
    world.engine.dispose()


def stabilized_of(learner: LearnerLoop) -> Stabilized:
    return learner._learner


def same_tensors(one: LearnerLoop, other: LearnerLoop) -> bool:
    ours, theirs = stabilized_of(one).state_dict(), stabilized_of(other).state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# ------------------------------------------------------------------ learning


def test_nothing_is_learned_or_published_before_enough_was_admitted(world: World) -> None:
    world.decide(19)
    assert world.learner.step()
    assert (world.num_updates(), world.versions()) == (0, [])
    world.decide(1)
    world.learner.step()
    assert (world.num_updates(), world.versions()) == (4, ["000001"])


def test_one_update_for_so_many_decisions(world: World) -> None:
    world.decide(22)
    world.learner.step()
    assert world.num_updates() == 4
    world.decide(3)
    world.learner.step()
    assert world.num_updates() == 5
    assert not world.learner.step()
    assert world.num_updates() == 5


def test_learning_pauses_to_read_on_and_gives_up_what_it_cannot_keep_up_with(world: World) -> None:
    world.timer.tick_seconds = 0.05
    world.decide(1_000)
    world.learner.step()
    assert 1 <= world.num_updates() <= 5
    for _ in range(10):
        world.decide(1_000)
        world.learner.step()
    assert world.num_updates() <= 50
    given_up = world.metrics.dropped._value.get()
    assert 2_200 - 150 <= given_up + world.num_updates() <= 2_200


def test_the_estimator_also_learns_from_what_the_agent_cannot(world: World) -> None:
    world.decide(25)
    for _ in range(75):  # each is the last of a session that timed out
        world.decide(1, session_id=f"lone {world.num_decided}")
    world.timer.tick_seconds = 1e-6
    with patch.object(Stabilized, "fit", autospec=True, side_effect=Stabilized.fit) as fit:
        world.learner.step()
    num_alone = fit.call_count - world.num_updates()  # every update fits the estimator once, too
    assert world.num_updates() == 20
    assert num_alone == 15  # 76 of 100 decisions are not ready


def test_the_meter_sees_every_decision_before_it_is_learned_from(world: World) -> None:
    calls = Mock()
    calls.update.return_value = {}
    with patch.object(Stabilized, "observe", calls.observe), patch.object(Stabilized, "update", calls.update):
        world.decide(25)
        world.learner.step()
    assert [call[0] for call in calls.method_calls] == ["observe", *["update"] * 5]
    assert len(calls.observe.call_args.args[0].reward) == 50


def test_the_scale_of_numbers_is_set_before_the_first_update_and_when_decisions_have_doubled(world: World) -> None:
    def mean_price() -> float:
        return float(stabilized_of(world.learner).policy_tensors()["embeddings.item_mean"][0])

    world.decide(20)
    world.learner.step()
    first = mean_price()
    assert first == 2.0  # candidates 1, 2, 3
    dear = decided("x", 0.0, candidates=["i7", "i8", "i9"])
    world.decide(19, candidates=dear.candidates)
    world.learner.step()
    assert mean_price() == first
    world.decide(1)
    world.learner.step()
    assert mean_price() > first


# ------------------------------------------------------------------ on-policy


PPO = slate_loop(
    agent="ppo", batch_size=16, minibatch_size=8, epochs=2, decisions_per_update=5, min_decisions=20, stabilizer="srs"
)


@pytest.fixture
def on_policy(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, PPO)
    yield world
    world.engine.dispose()


def learned_from(world: World) -> list[list[str]]:
    """The decisions of each update's minibatch in one step, in order; a decision is there once an impression."""
    with patch.object(Stabilized, "update", autospec=True, side_effect=Stabilized.update) as update:
        world.learner.step()
    buffer = world.learner._replay._buffer
    return [sorted(buffer.decision_ids(call.args[1].rows)) for call in update.call_args_list]


def both_of(first: int, last: int) -> list[str]:
    """Two impressions each of decisions `first` … `last`."""
    return sorted(2 * one_of(first, last))


def one_of(first: int, last: int) -> list[str]:
    return [f"d{n}" for n in range(first, last + 1)]


def test_on_policy_only_the_newest_are_learned_from_and_older_ones_never(on_policy: World) -> None:
    on_policy.decide(40)  # the last waits for its next decision; 8 updates are owed, and one has fresh impressions
    assert learned_from(on_policy) == [one_of(24, 39)]  # the other impressions of these come after all the decisions
    assert learned_from(on_policy) == []
    on_policy.decide(7)  # 40 to 46 are fresh: two impressions too few
    assert learned_from(on_policy) == []
    on_policy.decide(1)
    assert learned_from(on_policy) == [both_of(40, 47)]
    assert on_policy.num_updates() == 2
    assert on_policy.metrics.updates._value.get() == 2


def test_a_method_that_corrects_for_old_policies_learns_from_old_decisions_too(tmp_path: Path) -> None:
    world = World(tmp_path, PPO.model_copy(update={"learner": PPO.learner.model_copy(update={"agent": "reinforce"})}))
    world.decide(40)
    batches = learned_from(world)
    assert [len(batch) for batch in batches] == [16] * 8
    assert len({*chain(*batches)}) >= 35
    world.engine.dispose()


def test_the_estimator_takes_as_many_steps_as_the_agent_and_from_all_there_were(on_policy: World) -> None:
    """An update is 2 epochs of 2 minibatches. One fit is in it; 4 less the agent's share, 78 of 80 impressions and then
    94 of 96, are owed: 3.025, then 3.021 and the .025 left.
    """
    for num, num_rewarded in ((40, 80), (8, 96)):
        on_policy.decide(num)
        with patch.object(Stabilized, "fit", autospec=True, side_effect=Stabilized.fit) as fit:
            on_policy.learner.step()
        assert fit.call_count == 1 + 3
        assert [call.args[2] for call in fit.call_args_list] == [num_rewarded] * 4
        old = [call.args[1] for call in fit.call_args_list if min(call.args[1].rows) < 20]
        assert len(old) == 3  # of all there were, where the agent has the newest
    assert on_policy.learner._owed_fits == pytest.approx(3.025 + 4 - 94 / 96 - 6)


def test_a_new_process_has_nothing_fresh(on_policy: World) -> None:
    on_policy.decide(60)
    on_policy.learner.step()
    on_policy.learner.keep()
    on_policy.learner = on_policy.started(seed=7)
    assert learned_from(on_policy) == []
    on_policy.decide(8)
    assert learned_from(on_policy) == [both_of(60, 67)]
    assert on_policy.num_updates() == 2


def test_an_on_policy_agent_is_published(on_policy: World) -> None:
    on_policy.decide(40)
    on_policy.learner.step()
    manifest = read_policy(on_policy.folder / "policies" / "000001", PPO).manifest
    assert manifest.final_at == [5.0 * n + 10.0 for n in range(24, 40)]
    assert on_policy.champion() == "000001"


# ------------------------------------------------------------------ publishing


def test_a_policy_is_published_only_when_something_was_learned_and_not_too_often(world: World) -> None:
    world.decide(20)
    world.learner.step()
    world.timer.now += 1_000.0
    world.learner.step()
    assert world.versions() == ["000001"]
    world.decide(5)
    world.learner.step()
    assert world.versions() == ["000002", "000001"]
    world.timer.now += LOOP.learner.publish_every_seconds - 0.1
    world.decide(5)
    world.learner.step()
    assert world.versions() == ["000002", "000001"]
    world.timer.now += 0.2
    world.learner.step()
    assert world.versions() == ["000003", "000002", "000001"]
    assert world.champion() == "000003"


def test_publishing_takes_a_tenth_of_the_time_at_most(world: World) -> None:
    publish = world.learner._publisher.publish

    def slow(*args: Any, **kwargs: Any) -> Verdict:
        world.timer.now += 1.0
        return publish(*args, **kwargs)

    with patch.object(world.learner._publisher, "publish", side_effect=slow):
        world.decide(20)
        world.learner.step()  # from 0 s to 1 s
        world.decide(5)
        world.timer.now = 9.9
        world.learner.step()
        assert world.versions() == ["000001"]
        world.timer.now = 10.1
        world.learner.step()
    assert world.versions() == ["000002", "000001"]


def test_the_manifest_says_what_the_policy_was_made_of(world: World) -> None:
    world.decide(30)
    world.learner.step()
    manifest = read_policy(world.folder / "policies" / "000001", LOOP).manifest
    assert (manifest.parent, manifest.revision, manifest.created_at) == (None, world.source.tail.revision, START)
    assert {"agent_loss", "estimator_loss", "noise_share", "reward_variance", "estimate_variance", "score_spread"} <= (
        manifest.metrics.keys()
    )
    assert (manifest.metrics["updates"], manifest.metrics["admitted_decisions"]) == (6.0, 30.0)
    # The last decision has no next one yet, so 29 may have trained; they became final 10 s after they were made.
    assert set(manifest.final_at) <= {5.0 * n + 10.0 for n in range(1, 30)}
    assert 20 <= len(manifest.final_at) <= 29
    assert manifest.final_at == sorted(manifest.final_at)


def test_the_next_manifest_names_its_parent_and_only_what_is_new(world: World) -> None:
    world.decide(200)
    world.learner.step()
    world.timer.now += 10.0
    world.decide(5)
    world.learner.step()
    manifest = read_manifest(world.folder / "policies" / "000002")
    assert manifest.parent == "000001"
    first = set(read_manifest(world.folder / "policies" / "000001").final_at)
    assert max(manifest.final_at) >= 5.0 * 203 + 10.0
    assert not first & set(manifest.final_at)


def test_many_final_times_become_evenly_spaced_quantiles(world: World) -> None:
    world.decide(300)
    world.learner.step()
    final_at = read_manifest(world.folder / "policies" / "000001").final_at
    assert len(final_at) == 256
    assert (final_at[0], final_at[-1]) == (15.0, 5.0 * 299 + 10.0)


def test_the_story_of_a_decision_tells_what_trained_the_agent(world: World) -> None:
    world.decide(30, rewards=(None, 1.0))
    world.decide(30, rewards=(0.0, 1.0))
    with patch.object(RewardTail, "write_trainings") as write:
        world.learner.step()
    stories = {decision_id: rest for decision_id, *rest in write.call_args.args[0]}
    assert len(stories) >= 50
    assert "d60" not in stories  # its next decision has not come yet
    row = world.learner._replay._buffer.newest(2)[-1:]
    r_hat = stabilized_of(world.learner).estimator.predict(world.learner._replay.batch_of(row)).tolist()
    assert stories["d59"] == ["000001", pytest.approx(r_hat), pytest.approx(r_hat)]
    version, (nothing, estimate), stabilized = stories[min(stories)]
    assert (version, nothing, stabilized) == ("000001", None, [None, estimate])


def test_old_policies_lose_their_files_but_never_the_champion(tmp_path: Path) -> None:
    world = World(tmp_path, LOOP, keep_policies=2)
    world.decide(20)
    world.learner.step()
    world.registry.promote("000001", pinned=True)
    for _ in range(5):
        world.timer.now += 10.0
        world.decide(5)
        world.learner.step()
    assert sorted(path.name for path in (tmp_path / "policies").iterdir()) == ["000001", "000005", "000006"]
    assert world.champion() == "000001"
    world.engine.dispose()


def test_policies_that_emit_weights_are_published_too(tmp_path: Path) -> None:
    loop = weights_loop()
    loop = loop.model_copy(update={"learner": LOOP.learner.model_copy(update={"agent": "ddpg", "stabilizer": "srs2"})})
    world = World(tmp_path, loop)
    for n in range(30):
        played = {"action": [0.1 * (n % 10), 0.0, -0.5], "log_density": 1.0, "candidates": None, "items": []}
        world.decide(1, rewards=(float(n % 2),), **played)
    world.learner.step()
    policy = read_policy(tmp_path / "policies" / "000001", loop)
    assert isinstance(policy, WeightsPolicy)
    assert {"action_saturation", "noise_share"} <= policy.manifest.metrics.keys()
    assert world.champion() == "000001"
    world.engine.dispose()


def test_with_automatic_promotion_off_policies_are_only_published(tmp_path: Path) -> None:
    loop = LOOP.model_copy(update={"promotion": LOOP.promotion.model_copy(update={"automatic": False})})
    world = World(tmp_path, loop)
    world.decide(20)
    world.learner.step()
    assert (world.versions(), world.champion()) == (["000001"], None)
    world.engine.dispose()


# ------------------------------------------------------------------ what goes wrong


def diverge(learner: LearnerLoop) -> None:
    with torch.no_grad():
        next(iter(stabilized_of(learner).agent._online.head.parameters())).fill_(torch.nan)  # type: ignore[attr-defined]


def test_a_diverged_learner_never_serves_and_goes_on_from_its_checkpoint(world: World) -> None:
    world.decide(30)
    world.learner.step()
    world.learner.keep()
    kept = world.started(seed=5)
    diverge(world.learner)
    world.timer.now += CHECKPOINT_EVERY_SECONDS
    world.decide(5)
    world.learner.step()
    assert [(row.version, row.state) for row in world.registry.listing()] == [
        ("000002", "rejected"),
        ("000001", "champion"),
    ]
    assert same_tensors(world.learner, kept)
    world.timer.now += 10.0
    world.decide(5)
    world.learner.step()
    assert world.champion() == "000003"


def test_a_learner_that_overflows_is_rejected_without_a_warning(world: World) -> None:
    world.decide(30)
    world.learner.step()
    with torch.no_grad():
        for parameter in stabilized_of(world.learner).agent._online.head.parameters():  # type: ignore[attr-defined]
            parameter.fill_(1e30)
    world.learner._publish()
    assert [row.state for row in world.registry.listing()] == ["rejected", "champion"]


def test_without_a_checkpoint_a_diverged_learner_starts_anew(world: World) -> None:
    world.decide(30)
    world.learner.step()
    diverge(world.learner)
    world.timer.now += 3.0
    world.decide(5)
    world.learner.step()
    assert all(tensor.isfinite().all() for tensor in stabilized_of(world.learner).state_dict().values())


def test_what_trained_a_rejected_policy_is_told_of_the_next_one(world: World) -> None:
    world.decide(30)
    diverge(world.learner)
    world.learner.step()
    assert read_manifest(world.folder / "policies" / "000001").final_at == []
    world.timer.now += 10.0
    world.decide(5)
    world.learner.step()
    manifest = read_manifest(world.folder / "policies" / "000002")
    assert manifest.parent is None
    assert min(manifest.final_at) < 5.0 * 30


def test_a_publication_that_failed_half_way_is_made_up_for(world: World) -> None:
    world.decide(30)
    with (
        patch.object(PolicyRegistry, "publish", side_effect=StoreUnavailableError("locked")),
        pytest.raises(StoreUnavailableError),
    ):
        world.learner.step()
    assert world.champion() is None
    world.learner.step()
    assert world.champion() == "000002"
    assert len(read_manifest(world.folder / "policies" / "000002").final_at) >= 20


# ------------------------------------------------------------------ restarts


def test_a_new_process_goes_on_where_the_state_was_kept(world: World) -> None:
    world.decide(30)
    world.learner.step()
    world.learner.keep()
    after = world.started(seed=7)
    assert same_tensors(world.learner, after)
    assert after._progress == world.learner._progress
    assert after._rng.bit_generator.state == world.learner._rng.bit_generator.state
    assert after._replay.revision == world.learner._replay.revision
    assert len(after._replay) == 30
    assert not after.step()  # nothing new: nothing to learn again, nothing to publish
    assert world.versions() == ["000001"]


def test_what_came_after_the_state_was_kept_is_learned_again(world: World) -> None:
    world.decide(30)
    world.learner.step()
    world.learner.keep()
    world.decide(20)
    world.learner.step()
    after = world.started(seed=7)
    after.step()
    assert (after._progress.num_admitted, after._progress.num_updates) == (50, 10)
    assert len(after._replay) == 50


def test_the_state_is_kept_every_few_seconds(world: World) -> None:
    world.decide(30)
    world.learner.step()
    assert not (world.folder / "training" / FILE).exists()
    world.timer.now += CHECKPOINT_EVERY_SECONDS
    world.learner.step()
    assert (world.folder / "training" / FILE).exists()


def test_a_state_that_is_not_finite_is_never_kept(world: World) -> None:
    world.decide(30)
    world.learner.step()
    diverge(world.learner)
    world.learner.keep()
    assert not (world.folder / "training" / FILE).exists()


def test_the_store_is_written_in_few_transactions_a_policy(world: World) -> None:
    commits = count_commits(world.engine)
    world.decide(300)
    world.learner.step()
    assert world.versions() == ["000001"]
    assert len(commits) <= 4  # its number, its row, its promotion, its trainings
    assert decision_story(world.engine, "d5") is None  # this test's decisions are not in the store


def count_commits(engine: Engine) -> list[object]:
    commits: list[object] = []

    def begun(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("BEGIN IMMEDIATE"):
            commits.append(statement)

    event.listen(engine, "before_cursor_execute", begun)
    return commits
