"""`POST /recommend`: from the bytes of a request to the bytes of its answer."""

from collections.abc import Callable

import msgspec

from schemas.messages import RecommendRequest
from service.catalogue import Policy
from service.decision_log import DecisionLog
from service.live import Live
from service.metrics import ServiceMetrics
from service.problems import decode
from service.ranking import Ranked, Ranker
from service.recent import RecentDecisions

MAX_REPEATABLE = 100_000
"""Answers kept for clients that name their decisions, so that a retry gets the same one."""
REPEATABLE_SECONDS = 600.0
MAX_UNSTORED = 10_000
"""Answers kept under ids that the server made: nobody can retry those, only ask for their story."""


class Recommender:
    """Decodes, ranks, logs, remembers. Synchronous: a hop to a thread would cost more than all of it."""

    def __init__(
        self, ranker: Ranker, log: DecisionLog, live: Live, metrics: ServiceMetrics, clock: Callable[[], float]
    ) -> None:
        self._ranker = ranker
        self._log = log
        self._live = live
        self._metrics = metrics
        self._repeatable = RecentDecisions(MAX_REPEATABLE, REPEATABLE_SECONDS, clock)
        self._unstored = RecentDecisions(MAX_UNSTORED, REPEATABLE_SECONDS, clock)
        self._decoder = msgspec.json.Decoder(RecommendRequest)
        self._encode = msgspec.json.Encoder().encode
        self._newest_created_at = clock()
        self._acted: Policy | None = None

    def answer(self, body: bytes) -> bytes:
        """The `Recommendation`, as JSON.

        Raises:
            ProblemError: 400, 422; 409, another request had this decision id.
        """
        request = decode(self._decoder, body)
        if request.decision_id is not None:
            earlier = self._repeatable.repeat(request.decision_id, body)
            if earlier is None:
                earlier = self._unstored.repeat(request.decision_id, body)
            if earlier is not None:
                self._metrics.repeats.inc()
                return earlier
        ranked = self._ranker.rank(request)
        answer = self._encode(ranked.answer)
        if ranked.decision is not None:
            self._log.add(self._encode(ranked.decision))
            memory = self._unstored if request.decision_id is None else self._repeatable
            memory.remember(ranked.answer.decision_id, body, answer)
        self._count(ranked)
        return answer

    def remembered(self, decision_id: str) -> bytes | None:
        """The answer given under this id lately."""
        return self._repeatable.answer(decision_id) or self._unstored.answer(decision_id)

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
