"""The one place where the parts of a ranker are put together."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from policies.features import StateEncoder
from policies.files import read_policy
from policies.rests import rest_while
from schemas.loop_file import Loop
from schemas.settings import Settings
from service.background import Poller
from service.catalogue import ItemTables
from service.decision_log import DecisionLog
from service.durable_log import DurableLog
from service.feedback import FeedbackIntake, FeedbackRules
from service.hot_swap import CatalogueWatcher, PolicyHandle, PolicyWatcher, StoreHealth
from service.ids import IdSource
from service.live import Live
from service.metrics import ServiceMetrics
from service.packing import Packer
from service.parts import Parts
from service.ranking import Ranker, Serving
from service.recommend import Recommender
from service.store import Store
from service.worker_metrics import WorkerMetrics
from storage.event_logs import open_writer
from storage.spool import Spool


def make_parts(
    settings: Settings, loop: Loop, clock: Callable[[], float] = time.time, *, metrics_folder: Path | None = None
) -> Parts:
    """A ranker that has touched neither store nor log yet: both may be away. Workers share the `metrics_folder`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics, live, new_id = ServiceMetrics(registry), Live(clock), IdSource(os.urandom(12))
    store, log = Store(settings.store_url, clock), _durable_log(settings, clock, metrics)
    tables = ItemTables(loop)
    handle = PolicyHandle(Serving(None, tables.empty(), "no policy yet"))
    health = StoreHealth(metrics)
    decision_log = DecisionLog(log, settings, metrics)
    recommender = Recommender(
        Ranker(loop, handle.current, clock, new_id),
        log=decision_log,
        packer=Packer(log, "decisions"),
        live=live,
        metrics=metrics,
        clock=clock,
    )
    rest = rest_while(lambda: recommender.is_busy)
    policies = PolicyWatcher(
        handle,
        tables,
        champion=lambda: store.call(store.registry.champion),
        load=lambda version: read_policy(settings.policies_folder / version, loop, rest),
        default_state=StateEncoder(loop).encode(None),
        clock=clock,
        health=health,
        live=live,
        metrics=metrics,
    )
    catalogue = CatalogueWatcher(
        handle,
        tables,
        changed_since=lambda revision: store.call(store.catalogue.changed_since, revision),
        health=health,
        metrics=metrics,
    )
    return Parts(
        settings=settings,
        loop=loop,
        clock=clock,
        registry=registry,
        metrics=metrics,
        worker_metrics=WorkerMetrics(registry, metrics_folder),
        live=live,
        store=store,
        health=health,
        log=log,
        handle=handle,
        policies=policies,
        catalogue=catalogue,
        policy_poller=Poller("policy watcher", policies.look, settings.champion_poll_seconds, metrics),
        catalogue_poller=Poller("catalogue watcher", catalogue.look, settings.items_poll_seconds, metrics),
        decision_log=decision_log,
        recommender=recommender,
        feedback=FeedbackIntake(FeedbackRules(loop.feedback_kinds, clock, new_id), Packer(log, "feedback"), metrics),
    )


def _durable_log(settings: Settings, clock: Callable[[], float], metrics: ServiceMetrics) -> DurableLog:
    folder = settings.spool_folder
    spool = None if folder is None else Spool(folder, settings.spool_max_bytes, clock)
    return DurableLog(open_writer(settings, clock), spool, settings, metrics)
