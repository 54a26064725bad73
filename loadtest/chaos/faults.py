"""What is killed or frozen, and when. Pure: a seed gives the same faults again."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Victim = Literal["serve", "ingest", "train", "kafka", "postgresql"]
Action = Literal["kill", "stop"]

VICTIMS: tuple[Victim, ...] = get_args(Victim)
SESSION_SECONDS = 6.0
"""After which Kafka gives the partitions of a consumer that is frozen to another."""

_KILLS = 0.65
_TWO_AT_ONCE = 0.2
_MAX_AWAY_SECONDS = 3.0
_MIN_FROZEN_SECONDS, _MAX_FROZEN_SECONDS = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Strike:
    """`kill`: SIGKILL, and a new start after `seconds`. `stop`: SIGSTOP for `seconds`."""

    victim: Victim
    place: float
    """Which one of several, as a share of them in [0, 1)."""
    action: Action
    seconds: float


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at once, `after_seconds` after the one before began, whether that is over or not."""

    after_seconds: float
    strikes: tuple[Strike, ...]


def faults(seed: int, pause_seconds: float) -> Iterator[Fault]:
    """Without end: first each victim is killed once, then whatever comes; `pause_seconds` apart on average."""
    rng = Random(seed)

    def after_seconds() -> float:
        return pause_seconds * rng.uniform(0.4, 1.6)

    for victim in rng.sample(VICTIMS, len(VICTIMS)):
        yield Fault(after_seconds(), (_strike(rng, victim, "kill"),))
    while True:
        victims = rng.sample(VICTIMS, 2 if rng.random() < _TWO_AT_ONCE else 1)
        strikes = (_strike(rng, victim, "kill" if rng.random() < _KILLS else "stop") for victim in victims)
        yield Fault(after_seconds(), tuple(strikes))


def _strike(rng: Random, victim: Victim, action: Action) -> Strike:
    if action == "kill":
        seconds = rng.choice((0.0, rng.uniform(0, _MAX_AWAY_SECONDS)))
    elif victim == "ingest" and rng.random() < 0.4:
        seconds = rng.uniform(SESSION_SECONDS + 1, 2 * SESSION_SECONDS)  # it loses its partitions, and wakes
    else:
        seconds = rng.uniform(_MIN_FROZEN_SECONDS, _MAX_FROZEN_SECONDS)
    return Strike(victim, rng.random(), action, seconds)
