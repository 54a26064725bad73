"""What the ranker says of itself at `/console/data`, asked every second."""

import http.client
from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
from urllib.parse import urlsplit

import msgspec

POLL_SECONDS = 1.0
MINUTE_SECONDS = 60.0

_TIMEOUT_SECONDS = 2.0
_BUCKET_SECONDS = 2.0


class LoopFacts(msgspec.Struct):
    name: str
    agent: str
    estimator: str
    stabilizer: str
    wait_seconds: float


class RewardRow(msgspec.Struct):
    """Mean rewards of the decisions of one bucket, by who made them."""

    at: float
    decisions: int
    learned: float | None = None
    fallback: float | None = None


class Swap(msgspec.Struct):
    at: float
    version: str


class Freshness(msgspec.Struct):
    """Seconds from a reward being final to the first answer of a policy trained on it."""

    p50: float | None = None
    p95: float | None = None
    count: int = 0


class Policy(msgspec.Struct):
    version: str
    age_seconds: float


class Totals(msgspec.Struct):
    """Since the start of the ranker's process."""

    decisions: int = 0
    feedback_accepted: int = 0


class ConsoleData(msgspec.Struct):
    """The part of `/console/data` that is of use here."""

    now: float
    loop: LoopFacts
    reward: list[RewardRow]
    swaps: list[Swap]
    freshness_total: Freshness
    policy: Policy | None
    learner: dict[str, float | None]
    totals: Totals
    decisions_per_second: float

    def settled(self) -> list[RewardRow]:
        """The rows whose every decision is final: younger ones hold only those that closed early."""
        end = self.now - self.loop.wait_seconds - _BUCKET_SECONDS
        return [row for row in self.reward if row.at <= end]


def fetch(url: str, api_key: str | None, window_seconds: float) -> ConsoleData | None:
    """The last `window_seconds` as the ranker tells them; None: it does not answer, or not as it should."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_SECONDS)
    headers = {} if api_key is None else {"X-API-Key": api_key}
    try:
        connection.request("GET", f"/console/data?seconds={window_seconds:.0f}", headers=headers)
        response = connection.getresponse()
        return msgspec.json.decode(response.read(), type=ConsoleData) if response.status == 200 else None
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    finally:
        connection.close()


class Watch:
    """Asks every second in a thread, so that a ranker that hangs holds up nothing; `hear` gets what it says."""

    def __init__(self, ask: Callable[[], ConsoleData | None], hear: Callable[[ConsoleData], None]) -> None:
        self._ask, self._hear, self._stop = ask, hear, Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for an answer that is on its way."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            if (data := self._ask()) is not None:
                self._hear(data)
            self._stop.wait(POLL_SECONDS)


class RankerRecord:
    """What the ranker has said so far. Its counts begin anew when it is restarted; these go on."""

    def __init__(self) -> None:
        self.latest: ConsoleData | None = None
        self.versions: set[str] = set()
        """Of the policies that were swapped in."""
        self.learner: Mapping[str, float | None] = {}
        """The last figures of a champion."""
        self._past = Totals()
        self._freshness: list[Freshness] = [Freshness()]  # one a life of the ranker
        self._fallback: dict[float, RewardRow] = {}

    def add(self, data: ConsoleData) -> None:
        """In the order in which they came."""
        if self.latest is not None and data.totals.decisions < self.latest.totals.decisions:
            self._past = _sum(self._past, self.latest.totals)
            self._freshness.append(Freshness())
        self.latest = data
        self.versions.update(swap.version for swap in data.swaps)
        self.learner = data.learner or self.learner
        self._freshness[-1] = data.freshness_total
        self._note_fallback(data)

    @property
    def totals(self) -> Totals:
        """Over all lives; what a killed ranker did since it was last asked is missing."""
        return self._past if self.latest is None else _sum(self._past, self.latest.totals)

    @property
    def freshness(self) -> Freshness:
        """Over all lives: quantiles are averaged, weighted by their counts, which is exact for a single life."""
        lives = [life for life in self._freshness if life.count]
        return Freshness(
            _mean((life.p50, life.count) for life in lives),
            _mean((life.p95, life.count) for life in lives),
            sum(life.count for life in lives),
        )

    def last_minute_reward(self) -> float | None:
        """Mean reward a decision of the learned policies, before them of the fallback."""
        if self.latest is None:
            return None
        begin = self.latest.now - self.latest.loop.wait_seconds - MINUTE_SECONDS - _BUCKET_SECONDS
        rows = [row for row in self.latest.settled() if row.at >= begin]
        learned = _mean((row.learned, row.decisions) for row in rows)
        return _mean((row.fallback, row.decisions) for row in rows) if learned is None else learned

    def first_fallback_reward(self) -> float | None:
        """Mean reward a decision of the fallback's first minute."""
        return _mean((row.fallback, row.decisions) for row in self._fallback.values())

    def _note_fallback(self, data: ConsoleData) -> None:
        for row in data.settled():
            if row.fallback is not None and row.at < min(self._fallback, default=row.at) + MINUTE_SECONDS:
                self._fallback[row.at] = row


def _sum(a: Totals, b: Totals) -> Totals:
    return Totals(a.decisions + b.decisions, a.feedback_accepted + b.feedback_accepted)


def _mean(weighted: Iterable[tuple[float | None, int]]) -> float | None:
    pairs = [(value, weight) for value, weight in weighted if value is not None and weight > 0]
    num = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / num if num else None
