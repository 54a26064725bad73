"""What a terminal shows while `steadyrank up` runs; without a terminal a plain line now and then."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from service.up.ranker import ConsoleData, RankerRecord
from service.up.report import count, number, seconds, times
from service.up.shoppers import ShoppersRecord

LINE_EVERY_SECONDS = 5.0
DRAW_EVERY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class ChildState:
    name: str
    state: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Status:
    """All that is shown. `elapsed_seconds` since the run began to count; `run_seconds` None: until it is stopped."""

    elapsed_seconds: float
    run_seconds: float | None
    ranker: RankerRecord
    shoppers: ShoppersRecord | None
    children: Sequence[ChildState]
    url: str


def rows(status: Status) -> list[tuple[str, str]]:
    """Labels and values, top to bottom."""
    children = [_child(child) for child in status.children]
    addresses = [("children", "   ".join(children)), ("console", f"{status.url}/console   docs {status.url}/docs")]
    data = status.ranker.latest
    if data is None:
        return [("ranker", "starting …"), *addresses]
    return [
        ("decisions", f"{data.decisions_per_second:,.0f} a second, {count(status.ranker.totals.decisions)} in all"),
        ("reward", _reward(status)),
        ("policy", _policy(status.ranker, data)),
        ("freshness", f"{_freshness(status.ranker)} from feedback to served"),
        ("learning", _learning(data, status.ranker.learner)),
        ("requests", _requests(status)),
        *addresses,
    ]


def line(status: Status) -> str:
    """The same in one line, shorter."""
    data = status.ranker.latest
    clock = _clock(status)
    if data is None:
        return f"{clock}  the ranker is starting"
    parts = [
        f"{data.decisions_per_second:,.0f} decisions/s",
        f"reward {_reward(status)}",
        f"policy {_policy(status.ranker, data)}",
        f"fresh {_freshness(status.ranker)}",
        _requests(status),
    ]
    return f"{clock}  " + "; ".join(parts)


class View(Protocol):
    """Where people look. `say` is for what happened once, `show` for how things are; after `close` only `say`."""

    def say(self, text: str) -> None: ...

    def show(self, status: Status) -> None: ...

    def close(self) -> None: ...


class LiveView:
    """A panel that is drawn anew; what is said scrolls above it."""

    def __init__(self, title: str, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._clock = title, clock
        self._status: Status | None = None
        self._next_at = 0.0
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def say(self, text: str) -> None:
        self._live.console.print(Text(text))

    def show(self, status: Status) -> None:
        self._status = status
        if self._clock() >= self._next_at:
            self._next_at = self._clock() + DRAW_EVERY_SECONDS
            self._draw(status)

    def close(self) -> None:
        status, self._status = self._status, None
        if status is not None:
            self._draw(status)
        self._live.stop()

    def _draw(self, status: Status) -> None:
        table = Table.grid(padding=(0, 2))
        for label, value in rows(status):
            table.add_row(Text(label, style="dim"), Text(value))
        title = Text.assemble((self._title, "bold"), f"  {_clock(status)}")
        self._live.update(Panel(table, title=title, title_align="left", expand=False), refresh=True)


class LineView:
    """For logs and pipes."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._next_at = 0.0

    def say(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

    def show(self, status: Status) -> None:
        if self._clock() >= self._next_at:
            self._next_at = self._clock() + LINE_EVERY_SECONDS
            self.say(line(status))

    def close(self) -> None:
        """Nothing is held."""


def open_view(title: str, out: TextIO) -> View:
    """The live one on a terminal; close it."""
    return LiveView(title, Console(file=out)) if out.isatty() else LineView(out)


def _clock(status: Status) -> str:
    elapsed = _minutes(status.elapsed_seconds)
    return elapsed if status.run_seconds is None else f"{elapsed} of {_minutes(status.run_seconds)}"


def _minutes(duration_seconds: float) -> str:
    minutes, rest = divmod(int(duration_seconds), 60)
    return f"{minutes:02d}:{rest:02d}"


def _reward(status: Status) -> str:
    """Of the last minute, beside the uniform policy's: the world's own figure, or the fallback's first minute."""
    now, random = status.ranker.last_minute_reward(), None if status.shoppers is None else status.shoppers.random
    if random is not None:
        return number(now) + times(now, random, "random")
    return number(now) + times(now, status.ranker.first_fallback_reward(), "the fallback's first minute")


def _policy(ranker: RankerRecord, data: ConsoleData) -> str:
    if data.policy is None:
        return "none yet, the fallback answers"
    return f"{data.policy.version}, {seconds(data.policy.age_seconds)} old, {len(ranker.versions)} swapped in"


def _freshness(ranker: RankerRecord) -> str:
    return f"p50 {seconds(ranker.freshness.p50)}, p95 {seconds(ranker.freshness.p95)}"


def _learning(data: ConsoleData, learner: Mapping[str, float | None]) -> str:
    share = learner.get("noise_share")
    noise = "" if share is None else f", {share:.0%} of the reward's variance is noise, as far as it knows"
    return f"{data.loop.agent} on {data.loop.stabilizer} rewards{noise}"


def _requests(status: Status) -> str:
    if status.shoppers is None:
        return f"{count(status.ranker.totals.feedback_accepted)} feedback events accepted"
    tick = status.shoppers.latest
    return f"{count(tick.requests_failed)} failed, {count(tick.feedback_accepted)} feedback events accepted"


def _child(child: ChildState) -> str:
    restarts = f", {child.restarts} restarts" if child.restarts else ""
    return f"{child.name} {child.state}{restarts}"
