"""`POST /recommend`: from the bytes of a request to the bytes of its answer."""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from schemas.messages import RecommendRequest
from service.catalogue import Policy
from service.decision_log import DecisionLog
from service.live import Live
from service.metrics import ServiceMetrics
from service.packing import Packer
from service.problems import ProblemError, decode, unavailable
from service.ranking import Ranked, Ranker
from service.recent import RecentDecisions
from service.together import Settle, Together, settled
from storage.event_log import LogUnavailableError, RecordTooLargeError

MAX_REPEATABLE = 100_000
"""Answers kept for clients that name their decisions, so that a retry gets the same one."""
REPEATABLE_SECONDS = 600.0
MAX_UNSTORED = 2_000
"""Answers kept under ids that the server made: nobody can retry those, only ask for their story, until ingest has
stored it. 1.4 kB each, and a quarter of a second's of a ranker that does nothing else: where the store is further
behind, an older one is not found until it is there.
"""
MAX_UNKEPT = 10_000
"""Answers that wait for their decision to be durable, or for a retry where it could not be made so."""


class _Made(msgspec.Struct, frozen=True, gc=False):
    decision_id: str
    answer: bytes
    decision: bytes
    """Empty: there was nothing to choose from, so nothing was decided."""


class Recommender:
    """Decodes, ranks, logs, remembers, on the event loop: a hop to a thread would cost more than all of it. An answer
    waits for the requests that came at the same time, and where decisions must be durable for the log.
    """

    def __init__(
        self,
        ranker: Ranker,
        *,
        log: DecisionLog,
        packer: Packer,
        live: Live,
        metrics: ServiceMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._rankings = Together(ranker.rank_all)
        self._log = log
        self._packer = packer
        self._live = live
        self._metrics = metrics
        self._repeatable = RecentDecisions[bytes](MAX_REPEATABLE, REPEATABLE_SECONDS, clock)
        self._unstored = RecentDecisions[bytes](MAX_UNSTORED, REPEATABLE_SECONDS, clock)
        self._unkept = RecentDecisions[_Made](MAX_UNKEPT, REPEATABLE_SECONDS, clock)
        self._decoder = msgspec.json.Decoder(RecommendRequest)
        self._encode = msgspec.json.Encoder().encode
        self._newest_created_at = clock()
        self._acted: Policy | None = None
        self._tasks: set[asyncio.Task[bytes]] = set()

    def answer(self, body: bytes, settle: Settle[bytes]) -> None:
        """`settle` gets the `Recommendation` as JSON, now or at the end of this turn of the event loop, or what is in
        the way: `ProblemError` 400, 422; 409, another request had this decision id.
        """
        outcome: bytes | Exception | None
        try:
            request = decode(self._decoder, body)
            outcome = self._given_before(request, body)
        except Exception as error:  # noqa: BLE001 (as in `_answer_ranked`)
            outcome = error
        if outcome is None:
            self._rankings.ask(request, partial(self._answer_ranked, request, body, settle))
        else:
            settle(outcome)

    def durable_answer(self, body: bytes, settle: Settle[bytes]) -> None:
        """As `answer`, once the decision is in the event log or in the spool. What may be in the way beyond that:
        `ProblemError` 413, the log takes no record of this size; 503, neither took it. If the log is slow, it may have
        it all the same: so the same request, where it brings a decision id, gets the same answer when it comes again.
        """
        task = asyncio.get_running_loop().create_task(self._durable_answer(body))
        self._tasks.add(task)
        task.add_done_callback(partial(self._settle_durable, settle))

    def _settle_durable(self, settle: Settle[bytes], task: asyncio.Task[bytes]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():  # as the ranker ends, and nobody listens
            error = task.exception()
            settle(error if isinstance(error, Exception) else task.result())

    async def _durable_answer(self, body: bytes) -> bytes:
        request = decode(self._decoder, body)
        earlier = self._given_before(request, body)
        if earlier is not None:
            return earlier
        made = None if request.decision_id is None else self._unkept.repeat(request.decision_id, body)
        if made is None:
            made = self._made(await settled(partial(self._rankings.ask, request)))
            if not made.decision:
                return made.answer
            if request.decision_id is not None:  # as above
                made = self._unkept.repeat(made.decision_id, body) or made
                self._unkept.remember(made.decision_id, body, made)
        await self._keep(made.decision)
        self._remember(request, body, made)
        self._unkept.forget(made.decision_id)
        return made.answer

    @property
    def wait_seconds(self) -> float:
        """How long the rankings take that come before the next one's, by the last ones."""
        return self._rankings.wait_seconds

    @property
    def is_busy(self) -> bool:
        """Whether there are requests to rank; for other threads."""
        return self._rankings.is_busy

    def remembered(self, decision_id: str) -> bytes | None:
        """The answer given under this id lately."""
        return self._repeatable.answer(decision_id) or self._unstored.answer(decision_id)

    def _given_before(self, request: RecommendRequest, body: bytes) -> bytes | None:
        if request.decision_id is None:
            return None
        earlier = self._repeatable.repeat(request.decision_id, body)
        if earlier is None:
            earlier = self._unstored.repeat(request.decision_id, body)
        if earlier is not None:
            self._metrics.repeats.inc()
        return earlier

    def _answer_ranked(
        self, request: RecommendRequest, body: bytes, settle: Settle[bytes], ranked: Ranked | Exception
    ) -> None:
        outcome: bytes | Exception
        try:
            outcome = self._logged(request, body, ranked)
        except Exception as error:  # noqa: BLE001 (it is the request's, and the edge answers it)
            outcome = error
        settle(outcome)

    def _logged(self, request: RecommendRequest, body: bytes, ranked: Ranked | Exception) -> bytes:
        made = self._made(ranked)
        if made.decision:
            if request.decision_id is not None:  # the same request may have come twice at the same time
                earlier = self._given_before(request, body)
                if earlier is not None:
                    return earlier
            self._log.add(made.decision)
            self._remember(request, body, made)
        return made.answer

    def _made(self, ranked: Ranked | Exception) -> _Made:
        if isinstance(ranked, Exception):
            raise ranked
        answer = self._encode(ranked.answer)
        decision = b"" if ranked.decision is None else self._encode(ranked.decision)
        self._count(ranked)
        return _Made(ranked.answer.decision_id, answer, decision)

    def _remember(self, request: RecommendRequest, body: bytes, made: _Made) -> None:
        memory = self._unstored if request.decision_id is None else self._repeatable
        memory.remember(made.decision_id, body, made.answer)

    async def _keep(self, decision: bytes) -> None:
        try:
            await settled(partial(self._packer.append, decision))
        except RecordTooLargeError as error:
            raise ProblemError(413, f"send fewer candidates, or ask for fewer items: {error}") from error
        except LogUnavailableError as error:
            raise unavailable(f"the decision cannot be logged, so it is not given: {error}") from error

    def _count(self, ranked: Ranked) -> None:
        self._metrics.decisions[ranked.answer.mode].inc()
        if ranked.num_clipped:
            self._metrics.clipped.inc(ranked.num_clipped)
        if ranked.num_unknown:
            self._metrics.unknown.inc(ranked.num_unknown)
        if ranked.policy is not None and ranked.policy is not self._acted:
            self._acted = ranked.policy
            self._first_answer(ranked.policy)

    def _first_answer(self, policy: Policy) -> None:
        """Measures how fresh a policy is that is new. One that was made before this process started, or that comes
        back, served before: it would tell how long ago that was.
        """
        if policy.created_at > self._newest_created_at:
            self._newest_created_at = policy.created_at
            for age in self._live.served(policy.manifest.final_at):
                self._metrics.freshness.observe(age)
