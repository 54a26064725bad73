"""What shoppers and producers did, beside what locust counts: acknowledged events, rewards, versions."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

END_SHARE, MAX_END_SECONDS = 1 / 3, 20.0
"""The end of a run, over which its reward is judged: this share of it, and at most so much."""


@dataclass(slots=True)
class Tally:
    """Of one process, or of several added up."""

    decisions: Counter[int] = field(default_factory=Counter)
    """By second since the epoch."""
    rewards: Counter[int] = field(default_factory=Counter)
    """Sums, likewise."""
    versions: set[str] = field(default_factory=set)
    """Of policies that answered."""
    acknowledged: list[str] = field(default_factory=list)
    """Ids of events, each once however often it was sent."""
    unanswered: list[str] = field(default_factory=list)
    """Ids of events of which nobody knows whether they arrived."""

    def decided(self, second: int, version: str | None, reward: float | None) -> None:
        self.versions |= set() if version is None else {version}
        if reward is not None:
            self.decisions[second] += 1
            self.rewards[second] += reward  # type: ignore[assignment]  # sums of rewards are no integers

    def sent(self, event_ids: Iterable[str], *, is_acknowledged: bool) -> None:
        (self.acknowledged if is_acknowledged else self.unanswered).extend(event_ids)

    def end_reward(self) -> float | None:
        """Mean reward a decision in the last seconds."""
        if not self.decisions:
            return None
        begin, end = min(self.decisions), max(self.decisions) + 1
        since = end - 1 - min(END_SHARE * (end - begin), MAX_END_SECONDS)  # the last second may be a short one
        num = sum(n for second, n in self.decisions.items() if second >= since)
        return sum(reward for second, reward in self.rewards.items() if second >= since) / num

    def learning(self, random_reward: float) -> dict[str, float | None]:
        """The figures of that section."""
        reward = self.end_reward()
        is_comparable = reward is not None and random_reward > 0
        return {
            "reward": reward,
            "random": random_reward,
            "times_random": reward / random_reward if reward is not None and is_comparable else None,
            "policies": len(self.versions),
        }

    def take(self) -> dict[str, Any]:
        """All of it as JSON, and begins anew: what a process of several tells the first one."""
        told = {
            "decisions": dict(self.decisions),
            "rewards": dict(self.rewards),
            "versions": sorted(self.versions),
            "acknowledged": self.acknowledged,
            "unanswered": self.unanswered,
        }
        self.__init__()  # type: ignore[misc]  # all fields have defaults
        return told

    def add(self, told: Mapping[str, Any]) -> None:
        """What another process has taken."""
        self.decisions.update(told["decisions"])
        self.rewards.update(told["rewards"])
        self.versions.update(told["versions"])
        self.acknowledged.extend(told["acknowledged"])
        self.unanswered.extend(told["unanswered"])

    def write_ids(self, folder: Path) -> None:
        (folder / ACKNOWLEDGED).write_text("".join(f"{event_id}\n" for event_id in self.acknowledged))
        (folder / UNANSWERED).write_text("".join(f"{event_id}\n" for event_id in self.unanswered))


ACKNOWLEDGED, UNANSWERED, FIGURES = "acknowledged.txt", "unanswered.txt", "figures.json"
"""What a run leaves in its folder."""


def compare(acknowledged: Iterable[str], unanswered: Iterable[str], stored: Iterable[str]) -> dict[str, int]:
    """The figures of the section `feedback`, of ids."""
    promised, found = set(acknowledged), set(stored)
    return {
        "acknowledged": len(promised),
        "stored": len(found),
        "lost": len(promised - found),
        "unexplained": len(found - promised - set(unanswered)),
    }
