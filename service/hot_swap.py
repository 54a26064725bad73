"""Where a policy is swapped: one reference, changed on the event loop between two requests.

`PolicyHandle` holds it. `PolicyWatcher` follows the champion, `CatalogueWatcher` the items; each makes the next
`Serving` in a thread beside the one that serves, one at a time, so that neither undoes the other's work.
"""

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from policies.features import Encoded
from policies.files import PolicyFileError
from policies.policy import SlatePolicy
from service.catalogue import ChangedItem, ItemTables, Policy
from service.indexed import IndexedVectors
from service.live import Live
from service.metrics import ServiceMetrics
from service.pool import SAMPLE_SIZE
from service.ranking import Serving
from storage.database import StoreUnavailableError
from storage.registry import Champion

RETRY_SECONDS = 5.0
"""Until a policy that could not be loaded is tried again, unless another is promoted first."""
COMMITTED_AT_ONCE = 1_000
"""Items that change between two requests: a millisecond at most. All of them where there were none before."""

_log = logging.getLogger(__name__)


class PolicyHandle:
    """What serves now. Who changes it holds `changing` from before reading it until after the swap."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self.changing = asyncio.Lock()

    def current(self) -> Serving:
        return self._serving

    def swap(self, serving: Serving) -> None:
        self._serving = serving


class StoreHealth:
    """Whether the store answered last; says so in the log when that changes, and counts failures."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics
        self.trouble: str | None = None

    def failed(self, error: StoreUnavailableError) -> None:
        self._metrics.store_failures.inc()
        if self.trouble is None:
            _log.warning("the store is away; the ranker goes on with what it has: %s", error)
        self.trouble = str(error)

    def answered(self) -> None:
        if self.trouble is not None:
            _log.info("the store is back")
        self.trouble = None


class PolicyWatcher:
    """Follows the champion. A policy that cannot be loaded leaves the old one serving."""

    def __init__(
        self,
        handle: PolicyHandle,
        tables: ItemTables,
        *,
        champion: Callable[[], Champion | None],
        load: Callable[[str], Policy],
        default_state: Encoded,
        clock: Callable[[], float],
        health: StoreHealth,
        live: Live,
        metrics: ServiceMetrics,
    ) -> None:
        self._handle = handle
        self._tables = tables
        self._champion = champion
        self._load = load
        self._default_state = default_state
        self._clock = clock
        self._health = health
        self._live = live
        self._metrics = metrics
        self._failed_version = ""
        self._failed_at = 0.0
        self.has_looked = False
        """Whether the champion at the start serves, or could not."""

    async def look(self) -> None:
        """Swap the champion in if it is another than the policy that serves."""
        try:
            champion = await asyncio.to_thread(self._champion)
        except StoreUnavailableError as error:
            self._health.failed(error)
            await self._explain("no policy is known: the store is away")
        else:
            self._health.answered()
            if champion is None:
                await self._explain("no policy yet")
            elif self._is_due(champion.version):
                await self._change_to(champion.version)
        self.has_looked = True

    def _is_due(self, version: str) -> bool:
        policy = self._handle.current().policy
        if policy is not None and policy.version == version:
            return False
        return version != self._failed_version or self._clock() >= self._failed_at + RETRY_SECONDS

    async def _change_to(self, version: str) -> None:
        try:
            policy = await asyncio.to_thread(self._load, version)
        except (PolicyFileError, OSError) as error:
            await self._failed(version, error)
            return
        async with self._handle.changing:
            replaced = [self._handle.current()]
            warm = await asyncio.to_thread(self._warm, replaced[0], policy)
            self._handle.swap(warm)
        self._metrics.swaps.inc()
        self._metrics.policy_created.set(policy.created_at)
        self._live.swapped(version)
        await asyncio.to_thread(self._tell, policy)  # to a file whose disk may be busy, while requests wait
        await asyncio.to_thread(_retire, replaced)

    def _tell(self, policy: Policy) -> None:
        index = policy.index if isinstance(policy, SlatePolicy) else None
        self._metrics.index_recall.set(0.0 if index is None else index.recall)
        self._metrics.index_probes.set(0 if index is None else index.num_probes)
        if index is None:
            _log.info("policy %s serves", policy.version)
        elif index.num_probes:
            found = f"{index.num_probes} lists at {100 * index.recall:.1f} %"
            _log.info(
                "policy %s serves; a search in its %d items looks into %s of the best",
                policy.version,
                len(index),
                found,
            )
        else:
            _log.warning(
                "policy %s serves; its %d items do not lie in clusters: each request scores all",
                policy.version,
                len(index),
            )

    def _warm(self, serving: Serving, policy: Policy) -> Serving:
        """Its item vectors made, and its network run once, so that the first request does not pay for it."""
        table = self._tables.seen_by(serving.table, policy)
        if not isinstance(policy, SlatePolicy):
            policy.action(self._default_state)
        elif isinstance(table.vectors, IndexedVectors):
            table.vectors.shortlist(policy.state_vectors([self._default_state])[0], np.empty(0, np.intp))
        elif table.vectors is not None and len(table):
            some = table.vectors.take(range(min(len(table), SAMPLE_SIZE)))  # where items see each other, all are N²
            policy.scores(policy.state_vectors([self._default_state])[0], some)
        return Serving(policy, table, "")

    async def _failed(self, version: str, error: Exception) -> None:
        self._metrics.failed_loads.inc()
        if version != self._failed_version:
            _log.error("policy %s is not swapped in, the old one stays: %s", version, error)
        self._failed_version, self._failed_at = version, self._clock()
        await self._explain(f"the policy {version} cannot be loaded: {error}")

    async def _explain(self, reason: str) -> None:
        """Why there is no policy, where there is none."""
        if self._handle.current().policy is None:
            async with self._handle.changing:
                self._handle.swap(replace(self._handle.current(), reason=reason))


def _retire(replaced: list[Serving]) -> None:
    """Lets go of what served, in this thread: giving back the memory of a million items takes longer than a request."""
    policy = replaced.pop().policy
    if isinstance(policy, SlatePolicy) and policy.index is not None:
        policy.index.release()


class CatalogueWatcher:
    """Follows the items of the store."""

    def __init__(
        self,
        handle: PolicyHandle,
        tables: ItemTables,
        *,
        changed_since: Callable[[int], tuple[Sequence[ChangedItem], int]],
        health: StoreHealth,
        metrics: ServiceMetrics,
    ) -> None:
        self._handle = handle
        self._tables = tables
        self._changed_since = changed_since
        self._health = health
        self._metrics = metrics
        self._revision = 0
        self.looked = asyncio.Event()
        """Whether the catalogue is loaded, or could not be."""

    async def look(self) -> None:
        """Take over what was put and deleted since the last look."""
        try:
            items, revision = await asyncio.to_thread(self._changed_since, self._revision)
        except StoreUnavailableError as error:
            self._health.failed(error)
        else:
            self._health.answered()
            if items:
                await self._take(items)
            if not self.looked.is_set():
                gc.freeze()  # a full collection would look at each of a million items while requests wait
            self._revision = revision
        self.looked.set()

    async def _take(self, items: Sequence[ChangedItem]) -> None:
        async with self._handle.changing:
            num_at_once = COMMITTED_AT_ONCE if len(self._handle.current().table) else len(items)
            for start in range(0, len(items), num_at_once):
                serving, some = self._handle.current(), items[start : start + num_at_once]
                change = await asyncio.to_thread(self._tables.change, serving.table, some, serving.policy)
                self._handle.swap(replace(serving, table=change.commit()))
                replaced = [serving.table]
                del serving
                await asyncio.to_thread(replaced.clear)
        self._metrics.items.set(len(self._handle.current().table))
