"""`steadyrank up`: the ranker, ingest, the learner and, with a world, its shoppers, by one command."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import TextIO

from schemas.loop_file import Loop
from schemas.settings import Settings
from service.up.preflight import UpError, address, check_report_path, claim, listen, locked
from service.up.ranker import MINUTE_SECONDS, ConsoleData, RankerRecord, Watch, fetch
from service.up.report import Evidence, Report, make_report, problems, summary, write_report
from service.up.shoppers import ShoppersRecord
from service.up.supervisor import KILL_AFTER_SECONDS, USAGE_ERROR, ChildFailedError, Supervisor
from service.up.view import ChildState, Status, View, open_view
from storage.database import StoreUnavailableError, migrate, open_store
from storage.story import num_feedback, reward_totals

START_SECONDS = 60.0
"""A run that nobody came to counts from here, so that it ends."""
DRAIN_SECONDS = 20.0
"""How long ingest may take over what is accepted and not stored yet when the shoppers have left."""
QUIET_SECONDS = 3.0
HURRY_SECONDS = 1.0
"""What shoppers have to leave when `up` is told to stop, before the others are: all is over within 5 s."""
DRAIN_POLL_SECONDS = 0.2
MISSING = 1
INTERRUPTED = 130

_TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """What one `up` is to do, beside its settings."""

    program: tuple[str, ...]
    """The beginning of a command line that runs a command of steadyrank."""
    world: str | None = None
    """NAME or NAME:FOLDER."""
    num_shoppers: int = 100
    seed: int = 0
    run_seconds: float | None = None
    """From the first decision of a shopper; without a world from the ranker's first answer. None: until stopped."""
    report: Path | None = None


def run_up(settings: Settings, loop: Loop, plan: Plan, stop: Event, out: TextIO) -> int:
    """Runs until `stop` is set or the plan's time is over; blocks. Returns the exit status.

    Raises:
        UpError: nothing was started, and the text says why.
        StoreUnavailableError: nothing was started, as the store cannot be used.
    """
    if plan.report is not None:
        check_report_path(plan.report)
    if plan.world is not None and settings.api_keys:
        raise UpError("the shoppers of a world know no API key: unset STEADYRANK_API_KEYS for this run")
    with locked(settings.data), listen(settings.host, settings.port) as listener:
        change = claim(settings.data, loop)
        migrate(settings.store_url)
        view = open_view(f"steadyrank up · {loop.name}", out)
        try:
            if change is not None:
                view.say(change)
            return Run(settings, loop, plan, stop, view, listener=listener).run()
        finally:
            view.close()


class Run:
    """One `up`, from its first child to its report."""

    def __init__(
        self,
        settings: Settings,
        loop: Loop,
        plan: Plan,
        stop: Event,
        view: View,
        *,
        listener: socket.socket,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._loop, self._plan = settings, loop, plan
        self._stop, self._view, self._clock = stop, view, clock
        self._listener = listener  # held here too, so that nobody is refused while the ranker is restarted
        self._url = address(settings.host, listener.getsockname()[1])
        self._engine = open_store(settings.store_url)
        self._supervisor = Supervisor(settings.data / "logs", view.say)
        self._ranker = RankerRecord()
        self._shoppers = None if plan.world is None else ShoppersRecord()
        self._news: SimpleQueue[ConsoleData | str] = SimpleQueue()  # from the threads
        self._watch = Watch(self._ask, self._news.put)
        self._started_at = clock()
        self._answered_at: float | None = None
        self._ended_at = self._started_at

    def run(self) -> int:
        try:
            self._supervise()
            return self._conclude()
        except ChildFailedError as error:
            self._view.say(str(error))
            return USAGE_ERROR
        finally:
            self._engine.dispose()

    def _supervise(self) -> None:
        try:
            self._start()
            while not self._stop.wait(_TICK_SECONDS) and not self._is_over():
                self._step()
            self._ended_at = self._clock()
            self._wind_up()
        finally:
            self._watch.stop()
            self._supervisor.stop()
            self._listen()

    def _start(self) -> None:
        listener = self._listener.fileno()
        self._supervisor.start("serve", self._command("serve", "--listener", str(listener)), files=[listener])
        self._supervisor.start("ingest", self._command("ingest", *self._metrics(0)))
        self._supervisor.start("train", self._train())
        self._watch.start()

    def _train(self) -> list[str]:
        """Shoppers take all that is left of a machine, so that beside them a learner that yields would not learn."""
        command = self._command("train", *self._metrics(1))
        if self._plan.world is None or "train_session_nice" in self._settings.model_fields_set:
            return command
        return ["env", "STEADYRANK_TRAIN_SESSION_NICE=0", *command]

    def _command(self, name: str, *options: str) -> list[str]:
        common = ("--data", str(self._settings.data.absolute()), "--loop", str(self._settings.loop.absolute()))
        return [*self._plan.program, name, *common, *options, "--until-stdin-closes"]

    def _metrics(self, place: int) -> list[str]:
        """What gives each child that answers `/metrics` a port of its own: they share one environment."""
        port = self._settings.metrics_port
        return [] if port is None else ["--metrics-port", str(port + place)]

    def _step(self) -> None:
        self._supervisor.step()
        self._listen()
        if self._answered_at is None and self._ranker.latest is not None:
            self._answered_at = self._clock()
            self._view.say(f"the ranker answers: {self._url}/docs tells how to ask, {self._url}/console shows it live")
            self._let_shoppers_in()
        self._view.show(self._status())

    def _let_shoppers_in(self) -> None:
        plan = self._plan
        if plan.world is not None:
            what = ("--world", plan.world, "--url", self._url)
            how = ("--shoppers", str(plan.num_shoppers), "--seed", str(plan.seed))
            command = [*plan.program, "shoppers", *what, *how, "--until-stdin-closes"]
            self._supervisor.start("shoppers", command, on_line=self._news.put)

    def _listen(self) -> None:
        try:
            while True:
                news = self._news.get_nowait()
                if isinstance(news, ConsoleData):
                    self._ranker.add(news)
                elif self._shoppers is not None:
                    self._shoppers.add(news)
        except Empty:
            return

    def _ask(self) -> ConsoleData | None:
        key = self._settings.api_keys.split(",")[0].strip() or None
        return fetch(self._url, key, 1.5 * MINUTE_SECONDS + self._loop.reward.wait_seconds)

    @property
    def _counts_from(self) -> float | None:
        """When the run began to count; None: not yet."""
        began_at = self._answered_at if self._shoppers is None else self._shoppers.began_at
        if began_at is None and self._clock() >= self._started_at + START_SECONDS:
            return self._started_at + START_SECONDS
        return began_at

    def _is_over(self) -> bool:
        begin, run_seconds = self._counts_from, self._plan.run_seconds
        return run_seconds is not None and begin is not None and self._clock() >= begin + run_seconds

    def _wind_up(self) -> None:
        """The shoppers leave first. Unless told to stop, ingest then catches up, and the ranker has the last word."""
        leave_seconds = HURRY_SECONDS if self._stop.is_set() else KILL_AFTER_SECONDS
        self._supervisor.stop([name for name in self._supervisor.children if name == "shoppers"], leave_seconds)
        if self._stop.is_set():
            return
        self._listen()
        self._wait_for_ingest()
        if (data := self._ask()) is not None:
            self._news.put(data)

    def _wait_for_ingest(self) -> None:
        """Without a world until nothing comes any more: retries of a product are accepted twice and stored once."""
        num_stored, quiet_seconds, deadline = -1, 0.0, time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < deadline and quiet_seconds < QUIET_SECONDS and num_stored < self._num_accepted():
            if self._stop.wait(DRAIN_POLL_SECONDS):
                return
            self._supervisor.step()
            before, num_stored = num_stored, self._num_stored() or 0
            is_quiet = self._shoppers is None and num_stored == before
            quiet_seconds = quiet_seconds + DRAIN_POLL_SECONDS if is_quiet else 0.0

    def _num_accepted(self) -> int:
        if self._shoppers is None:
            return self._ranker.totals.feedback_accepted
        return self._shoppers.latest.feedback_accepted

    def _num_stored(self) -> int | None:
        try:
            return num_feedback(self._engine, self._started_at)
        except StoreUnavailableError:
            return None

    def _conclude(self) -> int:
        report = make_report(self._evidence())
        if self._plan.report is not None:
            write_report(self._plan.report, report)
        self._view.show(self._status())
        self._view.close()
        self._view.say(summary(report))
        return self._exit_status(report)

    def _exit_status(self, report: Report) -> int:
        if self._stop.is_set():  # what the log holds and the store does not is ingested at the next start
            return 0 if self._plan.run_seconds is None else INTERRUPTED
        found = problems(report)
        for problem in found:
            self._view.say(f"wrong: {problem}")
        return MISSING if found else 0

    def _evidence(self) -> Evidence:
        try:
            totals = reward_totals(self._engine, self._started_at)
        except StoreUnavailableError:
            totals = []
        return Evidence(
            ranker=self._ranker,
            shoppers=self._shoppers,
            seconds=self._ended_at - (self._answered_at or self._ended_at),
            num_stored=self._num_stored(),
            totals=totals,
            restarts={name: child.restarts for name, child in self._supervisor.children.items()},
            loop_name=self._loop.name,
            url=self._url,
        )

    def _status(self) -> Status:
        children = [ChildState(name, child.state, child.restarts) for name, child in self._supervisor.children.items()]
        begin, run_seconds = self._counts_from, self._plan.run_seconds
        elapsed_seconds = 0.0 if begin is None else self._clock() - begin
        return Status(
            elapsed_seconds=elapsed_seconds if run_seconds is None else min(elapsed_seconds, run_seconds),
            run_seconds=run_seconds,
            ranker=self._ranker,
            shoppers=self._shoppers,
            children=children,
            url=self._url,
        )
