"""Who strikes and who mends never meet on one part, and what was done is what is told."""

import time
from collections.abc import Callable
from typing import cast

from loadtest.chaos.cluster import BACKOFF_SECONDS, Cluster, Target
from loadtest.chaos.faults import VICTIMS, Victim
from loadtest.chaos.killer import Killer
from loadtest.parts.process import wait_until


class FakePart:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.is_running = True
        self.done: list[str] = []

    def start(self) -> None:
        self.is_running = True
        self.done.append("start")

    def kill(self) -> None:
        self.is_running = False
        self.done.append("kill")

    def pause(self) -> None:
        self.done.append("pause")

    def resume(self) -> None:
        self.done.append("resume")


class FakeCluster:
    """One or two of each."""

    def __init__(self) -> None:
        numbers: dict[Victim, int] = {"serve": 2, "ingest": 2}
        self.parts = {(victim, n): FakePart() for victim in VICTIMS for n in range(1, numbers.get(victim, 1) + 1)}
        self.targets = [Target(victim, n, part) for (victim, n), part in self.parts.items()]

    def of(self, victim: Victim) -> list[Target]:
        return [target for target in self.targets if target.victim == victim]


def run_until(cluster: FakeCluster, is_enough: Callable[[Killer], object]) -> Killer:
    killer = Killer(cast("Cluster", cluster), 3, 0.01, sleep=lambda _: None)
    killer.start()
    assert wait_until(lambda: is_enough(killer), 60)
    killer.stop()
    return killer


def test_each_victim_is_killed_and_started_again_and_it_is_told() -> None:
    cluster = FakeCluster()
    killer = run_until(cluster, lambda killer: killer.num_kills >= len(VICTIMS) + 3)
    assert {each.victim for each in killer.struck if each.action == "kill"} == set(VICTIMS)
    assert all(part.is_running for part in cluster.parts.values())
    done = [step for part in cluster.parts.values() for step in part.done]
    assert done.count("kill") == done.count("start") == killer.num_kills
    assert done.count("pause") == done.count("resume") == len(killer.struck) - killer.num_kills
    assert all(each.began_at <= each.ended_at for each in killer.struck)


def test_what_is_in_other_hands_or_down_is_not_struck() -> None:
    cluster = FakeCluster()
    [kafka], [train] = cluster.of("kafka"), cluster.of("train")
    cluster.parts["train", 1].is_running = False
    with kafka.seized() as is_ours:
        assert is_ours
        killer = run_until(cluster, lambda killer: killer.num_kills >= 6)
    assert cluster.parts["kafka", 1].done == cluster.parts["train", 1].done == []
    assert not {each.victim for each in killer.struck} & {"kafka", "train"}
    assert train.num_deaths == 0


def test_what_died_by_itself_is_started_again_after_a_while() -> None:
    part = FakePart()
    target, now = Target("ingest", 1, part), time.monotonic()
    target.mend(now)
    part.is_running = False
    target.mend(now)
    target.mend(now + 0.9 * BACKOFF_SECONDS)
    assert (part.done, target.num_deaths) == ([], 1)
    target.mend(now + BACKOFF_SECONDS)
    target.mend(now + 2 * BACKOFF_SECONDS)
    assert (part.done, target.num_deaths) == (["kill", "start"], 1), "what it may have left is killed first"


def test_what_is_struck_is_not_mended() -> None:
    part = FakePart()
    target = Target("ingest", 1, part)
    part.is_running = False
    with target.seized():
        target.mend(0.0)
        target.mend(10 * BACKOFF_SECONDS)
        with target.seized() as is_ours:
            assert not is_ours
    assert (part.done, target.num_deaths) == ([], 0)
