"""`python -m loadtest.outages`: what `/recommend` does while Kafka, PostgreSQL, the learner, or all of them are away.

A steady load from one process, open loop: a request goes out when its time has come, whether earlier ones were answered
or not, and its latency counts from then. Exit status 1 where a request got a 5xx, or the p99 more than tripled.
"""

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
import numpy as np
import uvloop

from loadtest.chaos.cluster import Cluster, Target
from loadtest.chaos.faults import Action, Victim
from schemas.messages import FeedbackAccepted, Recommendation

LOOP = Path(__file__).parent / "chaos" / "loop.toml"
MAX_RATIO = 3.0
"""Of the p99 during an outage to that before."""
SCENARIOS: dict[str, tuple[Victim, ...]] = {
    "kafka": ("kafka",),
    "postgresql": ("postgresql",),
    "train": ("train",),
    "all": ("kafka", "postgresql", "train"),
}
PHASES = ("before", "during", "after")

_FEEDBACK_SHARE = 0.5
_TIMEOUT_SECONDS = 10.0
_SETTLE_SECONDS = 5.0
_POLICY_SECONDS = 90.0
_NUM_ITEMS, _NUM_CANDIDATES = 300, 100


@dataclass(slots=True)
class Phase:
    """What was answered to the requests of one span of time."""

    latencies: list[float] = field(default_factory=list)
    """Of `/recommend`, in seconds."""
    recommend: Counter[str] = field(default_factory=Counter)
    """By status, or by what went wrong."""
    feedback: Counter[str] = field(default_factory=Counter)
    """Likewise; a 202 says whether it was spooled."""

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) if self.latencies else float("nan")

    @property
    def num_bad(self) -> int:
        return sum(num for outcome, num in self.recommend.items() if outcome != "200")

    def as_json(self) -> dict[str, Any]:
        return {
            "p50_ms": 1e3 * self.percentile(50),
            "p99_ms": 1e3 * self.percentile(99),
            "max_ms": 1e3 * self.percentile(100),
            "recommend": dict(self.recommend),
            "feedback": dict(self.feedback),
        }


class Load:
    """`rate` recommendations a second, and feedback on some."""

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._gap_seconds = url, 1 / rate
        self._rng, self._number = Random(0), count()
        self._run = f"{time.time():.0f}"

    async def run(self, session: aiohttp.ClientSession, seconds: float) -> Phase:
        """Returns when all that was asked in that time is answered."""
        loop, phase = asyncio.get_running_loop(), Phase()
        began_at = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(round(seconds / self._gap_seconds)):
                due = began_at + number * self._gap_seconds
                await asyncio.sleep(due - loop.time())
                group.create_task(self._shop(session, phase, due))
        return phase

    async def _shop(self, session: aiohttp.ClientSession, phase: Phase, due: float) -> None:
        decision_id = f"{self._run}-{next(self._number)}"
        items = [f"i{number}" for number in self._rng.sample(range(_NUM_ITEMS), _NUM_CANDIDATES)]
        request = {"context": {"user": "u"}, "candidates": items, "decision_id": decision_id}
        outcome, body = await self._post(session, "/recommend", request)
        phase.latencies.append(asyncio.get_running_loop().time() - due)
        phase.recommend[outcome] += 1
        if outcome == "200" and self._rng.random() < _FEEDBACK_SHARE:
            shown = msgspec.json.decode(body, type=Recommendation).items[0].item_id
            event = {"event_id": decision_id, "decision_id": decision_id, "item_id": shown, "kind": "click"}
            outcome, body = await self._post(session, "/feedback", event)
            phase.feedback[_with_spooled(outcome, body)] += 1

    async def _post(self, session: aiohttp.ClientSession, path: str, content: object) -> tuple[str, bytes]:
        try:
            async with session.post(self._url + path, data=msgspec.json.encode(content)) as response:
                return str(response.status), await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return type(error).__name__, b""


def _with_spooled(outcome: str, body: bytes) -> str:
    if outcome != "202":
        return outcome
    return "202 spooled" if msgspec.json.decode(body, type=FeedbackAccepted).spooled else "202"


@contextmanager
def away(targets: Sequence[Target], action: Action) -> Iterator[None]:
    """Within the block they are killed or frozen, and nobody starts them again."""
    with ExitStack() as seized:
        for target in targets:
            assert seized.enter_context(target.seized()), f"{target.name} was not up"
            (target.part.kill if action == "kill" else target.part.pause)()
        yield
        for target in targets:
            (target.part.start if action == "kill" else target.part.resume)()


@dataclass(frozen=True, slots=True)
class Spans:
    """Of the phases, in seconds."""

    before: float
    during: float
    after: float


async def measure(cluster: Cluster, name: str, action: Action, rate: float, spans: Spans) -> dict[str, Any]:
    """One outage, from before to after; waits first until all is as usual."""
    load = Load(cluster.urls[0], rate)
    targets = [target for victim in SCENARIOS[name] for target in cluster.of(victim)]
    headers, timeout = {"Content-Type": "application/json"}, aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        await _wait_for_policy(session, cluster.urls[0])
        await load.run(session, _SETTLE_SECONDS)
        before = await load.run(session, spans.before)
        outage = away(targets, action)
        await asyncio.to_thread(outage.__enter__)
        during = await load.run(session, spans.during)
        coming_back = asyncio.create_task(asyncio.to_thread(outage.__exit__, None, None, None))
        after = await load.run(session, spans.after)
        await coming_back
    phases = dict(zip(PHASES, (before, during, after), strict=True))
    return {
        "away": name,
        "how": action,
        "ratio": during.percentile(99) / before.percentile(99),
        "bad": sum(phase.num_bad for phase in phases.values()),
        **{phase: outcome.as_json() for phase, outcome in phases.items()},
    }


async def _wait_for_policy(session: aiohttp.ClientSession, url: str) -> None:
    """A policy's answers take longer than the fallback's."""
    loop = asyncio.get_running_loop()
    deadline, load = loop.time() + _POLICY_SECONDS, Load(url, 50)
    while True:
        await load.run(session, 1)
        async with session.get(f"{url}/policies") as response:
            if (await response.json()).get("champion"):
                return
        if loop.time() > deadline:
            raise TimeoutError(f"no policy was learned in {_POLICY_SECONDS:g} s")


def _lines(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    head = f"{'away':12}{'how':6}" + "".join(f"{f'{phase} p50/p99 ms':>22}" for phase in PHASES)
    yield head + f"{'ratio':>7}{'not 200':>9}  feedback during"
    for result in results:
        spans = "".join(f"{_span(result[phase]):>22}" for phase in PHASES)
        said = ", ".join(f"{num:,}× {outcome}" for outcome, num in sorted(result["during"]["feedback"].items()))
        yield f"{result['away']:12}{result['how']:6}{spans}{result['ratio']:>7.2f}{result['bad']:>9,}  {said}"


def _span(phase: dict[str, Any]) -> str:
    return f"{phase['p50_ms']:.1f} / {phase['p99_ms']:.1f}"


def _problems(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        what = f"{result['away']} away by {result['how']}"
        if result["bad"]:
            seen = {phase: result[phase]["recommend"] for phase in PHASES}
            yield f"{what}: {result['bad']} answers of /recommend were not 200: {seen}"
        if not result["ratio"] <= MAX_RATIO:
            yield f"{what}: the p99 of /recommend was {result['ratio']:.1f} × that before, not {MAX_RATIO:g} ×"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m loadtest.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each outage (default: %(default)s)")
    parser.add_argument("--before", type=float, default=20, help="seconds before and after it (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=150, help="recommendations a second (default: %(default)s)")
    parser.add_argument("--away", choices=SCENARIOS, action="append", help="only this; may be given several times")
    parser.add_argument("--how", choices=("kill", "stop"), action="append", help="SIGKILL or SIGSTOP (default: both)")
    parser.add_argument(
        "--folder", type=Path, default=Path("data/outages"), help="emptied first (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go as JSON")
    return parser.parse_args()


def main() -> int:
    options = _options()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    spans, results = Spans(options.before, options.seconds, options.before), []
    with Cluster(options.folder, LOOP, num_rankers=1, num_ingest=1) as cluster:
        cluster.wait_until_ready()
        for action in options.how or ("kill", "stop"):
            for name in options.away or SCENARIOS:
                _say(f"{name} away by {action} …")
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    results.append(runner.run(measure(cluster, name, action, options.rate, spans)))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    _say("\n" + "\n".join(_lines(results)) + "\n")
    found = list(_problems(results))
    for problem in found:
        _say(f"WRONG: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
