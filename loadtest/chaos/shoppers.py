"""The load over HTTP: shoppers who ask for recommendations and say what they did, until each is answered."""

import argparse
import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from uuid import uuid4

import msgspec
import uvloop

from loadtest.chaos.events import EARLY, Sending, Storyteller
from loadtest.chaos.ledger import Acknowledged, Answered, Asked, How, LedgerWriter, Tally
from loadtest.chaos.rankers import Rankers
from schemas.messages import FeedbackAccepted, FeedbackEvent, Recommendation, RecommendRequest

NUM_ITEMS = 300
NUM_CANDIDATES = 12
SLATE_SIZE = 3
DECISIONS_PER_SESSION = 5
MAX_SHOPPERS = 3_000
"""At once, each with one decision: they wait for answers, or for the time to say something."""
LEAVE_SECONDS = 30.0
"""How long what was begun may take at the end."""

_EARLY_SECONDS = 1.0


class Shoppers:
    """Ask for `rate` decisions a second in all, as long as they are answered."""

    def __init__(self, rankers: Rankers, ledger: LedgerWriter, seed: int, rate: float, wait_seconds: float) -> None:
        self._rankers, self._ledger, self._gap_seconds = rankers, ledger, 1 / rate
        self._rng = Random(seed)
        self._storyteller = Storyteller("h", self._rng, wait_seconds)
        self._encode = msgspec.json.Encoder().encode
        self._recommendations = msgspec.json.Decoder(Recommendation)
        self._accepted = msgspec.json.Decoder(FeedbackAccepted)
        self._room, self._stop = asyncio.Semaphore(MAX_SHOPPERS), asyncio.Event()

    def stop(self) -> None:
        """Begin nothing more; what was to be said later is said now."""
        self._stop.set()

    async def run(self) -> None:
        """Until told to stop, and all that was begun is over."""
        loop, run_id, num = asyncio.get_running_loop(), uuid4().hex[:8], 0
        tasks: set[asyncio.Task[None]] = set()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                await self._room.acquire()
                task = group.create_task(self._shop(f"{run_id}-{num}", f"{run_id}-s{num // DECISIONS_PER_SESSION}"))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                num, due = num + 1, max(due + self._gap_seconds, loop.time() - 1)
                await self._sleep(due - loop.time())
            loop.call_later(LEAVE_SECONDS, lambda: [task.cancel() for task in tasks])

    async def _shop(self, decision_id: str, session_id: str) -> None:
        """One decision and all that is said of it."""
        try:
            items = self._rng.sample(range(NUM_ITEMS), NUM_CANDIDATES)
            request = RecommendRequest(
                user_id=f"u{items[0]}",
                session_id=session_id,
                context={"user": f"u{items[0]}"},
                candidates=[f"i{item}" for item in items],
                decision_id=decision_id,
            )
            if self._rng.random() < EARLY:
                await self._say_early(decision_id, [f"i{item}" for item in items[:SLATE_SIZE]])
            answer = await self._rankers.ask("/recommend", self._encode(request))
            if answer is not None:
                shown = tuple(item.item_id for item in self._recommendations.decode(answer.body).items)
                now = time.time()
                self._ledger.add(Answered(decision_id, shown, now, answer.ranker))
                await self._say(self._storyteller.story(decision_id, shown, now))
        finally:
            self._room.release()

    async def _say_early(self, decision_id: str, item_ids: Sequence[str]) -> None:
        self._ledger.add(Asked(decision_id, tuple(item_ids)))
        first = next(self._storyteller.story(decision_id, item_ids, time.time()), None)
        await self._say([] if first is None else [first])
        await self._sleep(_EARLY_SECONDS)

    async def _say(self, story: Iterable[Sending]) -> None:
        for sending in sorted(story, key=lambda sending: sending.at):
            await self._sleep(sending.at - time.time())
            answer = await self._rankers.ask("/feedback", self._encode(sending.events))
            if answer is not None:
                self._ledger.add(*_acknowledged(sending.events, self._accepted.decode(answer.body)))

    async def _sleep(self, seconds: float) -> None:
        """Not once told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stop.wait()


def _acknowledged(events: Sequence[FeedbackEvent], accepted: FeedbackAccepted) -> Iterator[Acknowledged]:
    made = iter(accepted.event_ids or ())
    for event in events:
        assert event.occurred_at is not None
        how: How = "spooled" if accepted.spooled else "http"
        yield Acknowledged.of(event, event.event_id or next(made), event.occurred_at.timestamp(), how)


async def _main(options: argparse.Namespace) -> None:
    counts: Counter[str] = Counter()
    with LedgerWriter(options.ledger) as ledger:
        async with Rankers(options.url, counts, Random(options.seed)) as rankers:
            shoppers = Shoppers(rankers, ledger, options.seed, options.rate, options.wait_seconds)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, shoppers.stop)
            await shoppers.run()
        ledger.add(Tally(counts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", action="append", required=True, help="of a ranker; may be given several times")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True, help="decisions a second")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--wait-seconds", type=float, required=True, help="the loop's attribution window")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(parser.parse_args()))
