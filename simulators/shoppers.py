"""Shoppers: simulated users who drive any world over HTTP only, as a product would.

Each asks for a recommendation, responds as the world says, sends the feedback, and only then goes on. What fails is
asked again under the same ids until it is answered, so that no event is lost and none counts twice.
"""

import asyncio
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import uvloop

from schemas.messages import FeedbackEvent, Recommendation, RecommendRequest
from simulators.product_client import ProductClient
from simulators.world import Event, Outcome, State, World, random_reward
from simulators.worlds import WorldSpec

Report = Callable[[dict[str, Any]], None]

DRAIN_SECONDS = 2.0
"""How long shoppers that were told to stop may take over the decision that they are in."""

_TICK_SECONDS = 1.0
_STOP_POLL_SECONDS = 0.05
_RANDOM_REWARD_SESSIONS = 5_000


@dataclass(slots=True)
class Tally:
    """What all shoppers of a run did so far."""

    decisions: int = 0
    reward: float = 0.0
    sessions: int = 0
    requests_failed: int = 0
    feedback_accepted: int = 0
    modes: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)

    def add(self, answer: Recommendation, reward: float) -> None:
        self.decisions += 1
        self.reward += reward
        self.modes[answer.mode] += 1
        if answer.policy is not None:
            self.versions.add(answer.policy.version)

    def numbers(self, *, counts_clicks: bool) -> dict[str, Any]:
        """The fields of a line; `pages` and `clicks` where the reward counts the clicks of a page."""
        return {
            "decisions": self.decisions,
            "reward": self.reward,
            "sessions": self.sessions,
            "requests_failed": self.requests_failed,
            "feedback_accepted": self.feedback_accepted,
            "versions": len(self.versions),
            "modes": dict(self.modes),
        } | ({"pages": self.decisions, "clicks": self.reward} if counts_clicks else {})


class Pace:
    """Spaces out what shoppers ask for, to `max_rate` decisions a second in all."""

    def __init__(self, max_rate: float | None) -> None:
        self._gap_seconds = 1.0 / max_rate if max_rate else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        if self._gap_seconds:
            now = asyncio.get_running_loop().time()
            self._next = max(self._next, now) + self._gap_seconds
            await asyncio.sleep(self._next - self._gap_seconds - now)


@dataclass(frozen=True, slots=True)
class Habits:
    """How shoppers go about it."""

    num_shoppers: int = 100
    """At once, each in a session of its own."""
    seed: int = 0
    think_seconds: float = 0.0
    """Mean time between the decisions of a session, exponential; 0: each asks as soon as it was answered."""
    max_rate: float | None = None
    """Decisions a second, of all shoppers; None: as fast as the server answers."""


class Crowd:
    """The shoppers of one run, who share a connection pool, a tally and a pace."""

    def __init__(
        self, world: World, client: ProductClient, tally: Tally, habits: Habits, clock: Callable[[], float]
    ) -> None:
        self._world, self._client, self._tally, self._habits, self._clock = world, client, tally, habits, clock
        self._rng, self._pace = np.random.default_rng([habits.seed, 1]), Pace(habits.max_rate)
        # Unlike the world's, ids must differ from run to run: the server answers an id that it knows as before.
        self._run, self._numbers = uuid4().hex[:12], count()

    async def open_and_shop(self, stop: threading.Event) -> None:
        """Fills the catalogue once the server is up, then lets everyone in."""
        await self._client.wait_until_up()
        await self._client.put_items(self._world.catalogue())
        async with asyncio.TaskGroup() as group:
            for _ in range(self._habits.num_shoppers):
                group.create_task(self.shop(stop))

    async def shop(self, stop: threading.Event) -> None:
        """One shopper's life: sessions until told to stop, the last of them cut short."""
        while not stop.is_set():
            session_id = f"{self._run}-s{next(self._numbers)}"
            state, done = self._world.start(1, self._rng), False
            while not done and not stop.is_set():
                outcome = await self._decide(state, session_id)
                state, done = outcome.next_state, bool(outcome.done[0])
                await self._think()
            self._tally.sessions += done

    async def _decide(self, state: State, session_id: str) -> Outcome:
        [request] = self._world.requests(state)
        request.session_id, request.decision_id = session_id, f"{self._run}-{next(self._numbers)}"
        await self._pace.wait()
        answer = await self._client.recommend(request)
        actions = self._world.actions([answer])
        outcome = self._world.step(state, actions, self._rng)
        self._tally.add(answer, float(outcome.rewards.sum()))
        [events] = self._world.events(actions, outcome)
        if events:
            num_accepted = await self._client.feedback(self._messages(request, events))
            self._tally.feedback_accepted += num_accepted  # not in one line: += would read before it waits
        return outcome

    def _messages(self, request: RecommendRequest, events: list[Event]) -> list[FeedbackEvent]:
        now, decision_id = datetime.fromtimestamp(self._clock(), UTC), str(request.decision_id)
        return [
            FeedbackEvent(decision_id, event.kind, f"{decision_id}-{i}", event.item_id, event.value, now)
            for i, event in enumerate(events)
        ]

    async def _think(self) -> None:
        if self._habits.think_seconds:
            await asyncio.sleep(self._rng.exponential(self._habits.think_seconds))


async def drive(
    world: World,
    url: str,
    stop: threading.Event,
    habits: Habits,
    *,
    clock: Callable[[], float] = time.time,
    report: Report | None = None,
) -> Tally:
    """Shoppers until `stop` is set; then each ends the decision it is in, within `DRAIN_SECONDS`.

    `report` gets the lines: `start` with the random policy's true reward a decision, `tick` every second, `end`.

    Raises:
        ServerError: nobody answers at `url`, or a request is refused as wrong.
        WorldError: an answer means no action of the world.
    """
    report, tally = report or write_line, Tally()
    uniform = random_reward(world, _RANDOM_REWARD_SESSIONS, np.random.default_rng([habits.seed, 2]))
    report({"event": "start", "world": world.name, "random": uniform, "shoppers": habits.num_shoppers})

    def tell(event: str) -> None:
        report({"event": event, "at": clock(), **tally.numbers(counts_clicks=world.page_size is not None)})

    jitter = np.random.default_rng([habits.seed, 3])
    async with ProductClient(url, habits.num_shoppers, tally, jitter) as client:
        crowd = Crowd(world, client, tally, habits, clock)
        try:
            async with asyncio.TaskGroup() as group:
                shopping = group.create_task(crowd.open_and_shop(stop))
                ticking = group.create_task(_tick(tell))
                group.create_task(_end(stop, shopping, ticking))
        except ExceptionGroup as failures:
            raise _first(failures) from None  # the others failed likewise, or were cancelled for it
    tell("end")
    return tally


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


async def _tick(tell: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        tell("tick")


async def _end(stop: threading.Event, shopping: asyncio.Task[None], ticking: asyncio.Task[None]) -> None:
    while not stop.is_set():  # noqa: ASYNC110  it is set by another thread or a signal handler
        await asyncio.sleep(_STOP_POLL_SECONDS)
    await asyncio.wait([shopping], timeout=DRAIN_SECONDS)
    shopping.cancel()
    ticking.cancel()


def run_shoppers(
    world_spec: WorldSpec,
    url: str,
    num_shoppers: int = 100,
    seed: int = 0,
    think_seconds: float = 0.0,
    *,
    stop: threading.Event | None = None,
    max_rate: float | None = None,
) -> Tally:
    """Entry of `steadyrank shoppers`: drives the world until `stop`, SIGTERM or SIGINT; raises as `drive` does."""
    stop = stop or threading.Event()
    world = world_spec.make(seed)
    habits = Habits(num_shoppers, seed, think_seconds, max_rate)

    async def main() -> Tally:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await drive(world, url, stop, habits)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # a tenth less CPU than asyncio's own
        return runner.run(main())


def write_line(fields: dict[str, Any]) -> None:
    """One JSON line on stdout, at once: whoever supervises the shoppers reads along."""
    sys.stdout.write(msgspec.json.encode(fields).decode() + "\n")
    sys.stdout.flush()
