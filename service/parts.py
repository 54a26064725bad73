"""The parts of one ranker process, and their life."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from schemas.loop_file import Loop
from schemas.settings import Settings
from service.background import Poller
from service.decision_log import DecisionLog
from service.durable_log import DurableLog
from service.feedback import FeedbackIntake
from service.hot_swap import CatalogueWatcher, PolicyHandle, PolicyWatcher, StoreHealth
from service.live import Live
from service.metrics import ServiceMetrics
from service.recommend import Recommender
from service.store import Store
from service.worker_metrics import WorkerMetrics


@dataclass(frozen=True, slots=True)
class Parts:
    """Made by `service.bootstrap`, used by the routes."""

    settings: Settings
    loop: Loop
    clock: Callable[[], float]
    registry: CollectorRegistry
    metrics: ServiceMetrics
    worker_metrics: WorkerMetrics
    live: Live
    store: Store
    health: StoreHealth
    log: DurableLog
    handle: PolicyHandle
    policies: PolicyWatcher
    catalogue: CatalogueWatcher
    policy_poller: Poller
    catalogue_poller: Poller
    decision_log: DecisionLog
    recommender: Recommender
    feedback: FeedbackIntake

    @property
    def is_ready(self) -> bool:
        """Whether what the store had at the start is in use. If the store is away, the uniform fallback is: that it
        answers without one is what the ranker promises, so it is ready then too.
        """
        return self.policies.has_looked and self.catalogue.looked.is_set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The work in the background; at the end every decision that was answered is in the log, or in the spool."""
        pollers = (self._follow_policies(), self.catalogue_poller.run())
        runs = (*pollers, self.decision_log.run(), self.log.run(), self.worker_metrics.run())
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.decision_log.finish()
            await self.log.close()
            self.store.close()

    async def _follow_policies(self) -> None:
        """Once the catalogue was looked at: items that come after a policy count as put since its index was made."""
        await self.catalogue.looked.wait()
        await self.policy_poller.run()
