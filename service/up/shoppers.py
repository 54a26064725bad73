"""What the shoppers of a world tell: a JSON line a second, with counts since they started."""

from collections import deque
from dataclasses import dataclass

import msgspec

WINDOW_SECONDS = 30.0
"""`start` and `end` are means over the first and the last so many seconds."""

_TICK_SECONDS = 1.0
_PAGE_ITEMS = 10  # the click-through rate of Virtual Taobao: clicks / pages / 10


class Tick(msgspec.Struct, frozen=True):
    """Counts at a time. `pages` and `clicks` count where the reward is the clicks of a page."""

    at: float = 0.0
    decisions: int = 0
    reward: float = 0.0
    requests_failed: int = 0
    feedback_accepted: int = 0
    versions: int = 0
    pages: int = 0
    clicks: float = 0.0


class _Line(msgspec.Struct):
    event: str
    world: str = ""
    random: float | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """What came in between two ticks."""

    decisions: int
    reward: float
    pages: int
    clicks: float

    @property
    def reward_per_decision(self) -> float | None:
        return self.reward / self.decisions if self.decisions else None

    @property
    def click_through_rate(self) -> float | None:
        return self.clicks / self.pages / _PAGE_ITEMS if self.pages else None


class ShoppersRecord:
    """What shoppers did so far. Their counts begin anew when they are restarted; these go on."""

    def __init__(self) -> None:
        self.world = ""
        self.random: float | None = None
        """The mean true reward a decision of the uniformly random policy."""
        self.latest = Tick()
        self._before = Tick()  # what earlier lives did
        self._begin: Tick | None = None
        self._first = Tick()
        self._recent: deque[Tick] = deque()

    def add(self, line: str) -> None:
        """Takes a line of their stdout; one that is none of theirs, or only the half of one, says nothing."""
        try:
            fields = msgspec.json.decode(line, type=_Line)
            if fields.event == "start":
                self.world, self.random, self._before = fields.world, fields.random, self.latest
            else:
                self._note(_sum(self._before, msgspec.json.decode(line, type=Tick)))
        except msgspec.DecodeError:
            return

    @property
    def began_at(self) -> float | None:
        """About when the first decision was made; None: not yet."""
        return None if self._begin is None else self._begin.at

    @property
    def seconds(self) -> float:
        return 0.0 if self._begin is None else self.latest.at - self._begin.at

    def first(self) -> Gain:
        """Of the first 30 s."""
        return _gain(self._begin or Tick(), self._first)

    def last(self) -> Gain:
        """Of the last 30 s."""
        return _gain(self._recent[0] if self._recent else Tick(), self.latest)

    def _note(self, tick: Tick) -> None:
        if self._begin is None and tick.decisions:
            self._begin = self._first = msgspec.structs.replace(
                self.latest, at=self.latest.at or tick.at - _TICK_SECONDS
            )
            self._recent.append(self._begin)
        self.latest = tick
        if self._begin is not None:
            self._first = tick if tick.at <= self._begin.at + WINDOW_SECONDS else self._first
            self._recent.append(tick)
            while self._recent[1].at <= tick.at - WINDOW_SECONDS:
                self._recent.popleft()


def _sum(a: Tick, b: Tick) -> Tick:
    return Tick(
        at=b.at,
        decisions=a.decisions + b.decisions,
        reward=a.reward + b.reward,
        requests_failed=a.requests_failed + b.requests_failed,
        feedback_accepted=a.feedback_accepted + b.feedback_accepted,
        versions=max(a.versions, b.versions),
        pages=a.pages + b.pages,
        clicks=a.clicks + b.clicks,
    )


def _gain(a: Tick, b: Tick) -> Gain:
    return Gain(b.decisions - a.decisions, b.reward - a.reward, b.pages - a.pages, b.clicks - a.clicks)
