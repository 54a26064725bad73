"""The kill test from start to end."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from loadtest.chaos.audit import as_stored, audit_decisions, audit_events, audit_rewards
from loadtest.chaos.cluster import ROOT, Cluster, Program
from loadtest.chaos.drain import Drain
from loadtest.chaos.killer import Killer
from loadtest.chaos.ledger import Ledger
from loadtest.chaos.report import MAX_LAG_SECONDS, Evidence, Report, make_report
from loadtest.chaos.shoppers import LEAVE_SECONDS
from loadtest.chaos.stored import stored_decisions, stored_events, stored_totals
from loadtest.chaos.waiting import waiting_ids
from schemas.loop_file import Loop, read_loop
from storage.database import open_store
from storage.registry import PolicyRegistry

LOOP = Path(__file__).with_name("loop.toml")
_TICK_SECONDS = 0.2
_TELL_SECONDS = 10.0
_DRAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    folder: Path
    num_kills: int
    num_events: int
    max_seconds: float
    """The killing ends then, whether as much as was asked for has happened or not."""
    seed: int
    rate: float
    """Decisions a second."""
    pause_seconds: float
    """Between two faults, on average."""


class LoadFailedError(Exception):
    """A process of the load has ended; the text names its log."""


def run_chaos(plan: Plan, say: Callable[[str], None]) -> Report:
    """Blocks. Everything it starts has ended when it returns, or raises.

    Raises:
        PartUnavailableError, PartFailedError: Kafka or PostgreSQL cannot be had, or does not come up.
        LoadFailedError, TimeoutError: the run could not go on.
    """
    with Cluster(plan.folder, LOOP) as cluster, closing(Ledger(*_ledgers(plan))) as ledger:
        cluster.wait_until_ready()
        say(f"seed {plan.seed}; rankers at {', '.join(cluster.urls)}; logs in {cluster.logs}")
        return _Run(plan, cluster, ledger, say).run()


def _ledgers(plan: Plan) -> tuple[Path, Path]:
    return plan.folder / "shoppers.ledger", plan.folder / "producers.ledger"


class _Run:
    def __init__(self, plan: Plan, cluster: Cluster, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._plan, self._cluster, self._ledger, self._say = plan, cluster, ledger, say
        self._loop: Loop = read_loop(LOOP)
        self._killer = Killer(cluster, plan.seed, plan.pause_seconds)
        self._began_at = time.monotonic()

    def run(self) -> Report:
        engine = open_store(self._cluster.settings.store_url)
        with closing(Drain(self._cluster.settings, engine)) as drain:
            try:
                with self._load() as load:
                    self._kill(load)
                    lag_seconds = self._lag_seconds(drain)
                    seconds = time.monotonic() - self._began_at
                self._settle(drain)
                return make_report(self._evidence(engine, drain, seconds, lag_seconds))
            finally:
                engine.dispose()

    @contextmanager
    def _load(self) -> Iterator[Sequence[Program]]:
        """Shoppers and producers, until the end of the block, and until they have what they still wait for."""
        shoppers, producers = self._programs()
        with ExitStack() as ending:
            for program in (shoppers, producers):
                ending.callback(program.kill)
                program.start()
            yield shoppers, producers
            for program in (shoppers, producers):
                program.stop(2 * LEAVE_SECONDS)
        self._ledger.refresh()
        if self._ledger.num_ended < 2:
            raise LoadFailedError(f"the load did not end as it should; see {shoppers.log} and {producers.log}")

    def _programs(self) -> tuple[Program, Program]:
        said, produced = _ledgers(self._plan)
        wait = ("--wait-seconds", str(self._loop.reward.wait_seconds))
        urls = [part for url in self._cluster.urls for part in ("--url", url)]
        rate, seed = ("--rate", str(self._plan.rate)), self._plan.seed
        kafka = ("--kafka", self._cluster.kafka.servers, "--decisions", str(said))
        return (
            self._program("shoppers", *urls, *rate, "--ledger", str(said), "--seed", str(seed), *wait),
            self._program("producers", *kafka, "--ledger", str(produced), "--seed", str(seed + 1), *wait),
        )

    def _program(self, name: str, *options: str) -> Program:
        command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", f"loadtest.chaos.{name}", *options]
        return Program(command, self._cluster.logs / f"{name}.log")

    def _kill(self, load: Sequence[Program]) -> None:
        """Until there were kills and events enough, or the time is over."""
        self._killer.start()
        tell_at, deadline = 0.0, self._began_at + self._plan.max_seconds
        try:
            while time.monotonic() < deadline and not self._is_enough():
                time.sleep(_TICK_SECONDS)
                self._check(load)
                if time.monotonic() >= tell_at:
                    self._tell()
                    tell_at = time.monotonic() + _TELL_SECONDS
        finally:
            self._killer.stop()
        self._tell()

    def _check(self, load: Sequence[Program]) -> None:
        self._ledger.refresh()
        self._killer.check()
        for program in load:
            if not program.is_running:
                raise LoadFailedError(f"the load has ended by itself; see {program.log}")

    def _is_enough(self) -> bool:
        return self._killer.num_kills >= self._plan.num_kills and len(self._ledger.events) >= self._plan.num_events

    def _tell(self) -> None:
        struck = self._killer.struck
        self._say(
            f"{time.monotonic() - self._began_at:6.0f} s  {self._killer.num_kills:4} kills  "
            f"{len(struck) - self._killer.num_kills:4} stops  {len(self._ledger.answered):8,} decisions  "
            f"{len(self._ledger.events):9,} events acknowledged"
        )

    def _lag_seconds(self, drain: Drain) -> float | None:
        """From the begin of the last strike until nothing lay in the log unread, while the load goes on."""
        last_at = max((each.began_at for each in self._killer.struck), default=time.time())
        has_caught_up = drain.wait_until_caught_up(2 * MAX_LAG_SECONDS)
        return time.time() - last_at if has_caught_up else None

    def _settle(self, drain: Drain) -> None:
        """Until all that was acknowledged has arrived and is final, if it does in a minute."""
        self._say("the load has ended; waiting until all has arrived")
        drain.wait_until_relayed(_DRAIN_SECONDS)
        drain.wait_until_caught_up(_DRAIN_SECONDS)
        drain.wait_until_final(_DRAIN_SECONDS + self._loop.reward.wait_seconds)

    def _evidence(self, engine: Engine, drain: Drain, seconds: float, lag_seconds: float | None) -> Evidence:
        killed_at_end = self._cluster.stop_programs()
        self._say("auditing")
        ledger, settings, struck = self._ledger, self._cluster.settings, self._killer.struck
        decisions = list(stored_decisions(engine))
        slates = {decision.decision_id: decision.item_ids for decision in decisions}
        events = audit_events(ledger.events, stored_events(engine), lambda: waiting_ids(settings, engine, self._loop))
        happened = [*map(as_stored, ledger.events.values()), *events.unacknowledged]
        return Evidence(
            seconds=seconds,
            num_kills_wanted=self._plan.num_kills,
            num_events_wanted=self._plan.num_events,
            struck=struck,
            deaths={target.name: target.num_deaths for target in self._cluster.targets},
            killed_at_end=killed_at_end,
            acknowledged=ledger.events,
            num_repeats=ledger.num_repeats,
            counts=ledger.counts,
            events=events,
            rewards=audit_rewards(decisions, happened, stored_totals(engine), self._loop, drain.watermark()),
            decisions=audit_decisions(ledger.answered, slates, ledger.events.values(), struck),
            lag_seconds=lag_seconds,
            num_spool_bytes=drain.num_spool_bytes(),
            num_policies=len(PolicyRegistry(engine, time.time).listing()),
        )
