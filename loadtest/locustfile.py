"""Load on a ranker: `locust -f loadtest/locustfile.py --host http://localhost:8080 --loop-file loop.toml`.

Shoppers ask for a page, click, send the feedback and think, session after session; what fails is asked again with the
same ids. With `--kafka` producers write half of the feedback to Kafka themselves. docs/loadtest.md
"""

import json
import sys
import time
from collections.abc import Mapping
from itertools import count
from random import Random
from typing import Any, ClassVar

import msgspec
import numpy as np
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # it brings no types
from locust import FastHttpUser, User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import FastHttpSession
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import StatsEntry

from loadtest.load.asking import Answer, ask
from loadtest.load.outbox import PackingProducer
from loadtest.load.plan import Plan, add_options, make_plan
from loadtest.load.products import Response, Visit
from loadtest.load.report import summary, table
from loadtest.load.tally import FIGURES
from loadtest.load.thresholds import ThresholdsError, judge
from schemas.loop_file import LoopFileError
from schemas.messages import MAX_ITEMS_PER_PUT, FeedbackEvent, Recommendation, RecommendRequest
from simulators.world import WorldError
from storage.event_log import LogUnavailableError

BAD_INPUT = 2
OVER = ("stopping", "stopped", "cleanup")

_START_SECONDS = 30.0
_IDLE_SECONDS = 0.05
_NUMBERS = count()
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Recommendation).decode


class Run:
    """The run that this process has a part in, set as locust starts."""

    plan: ClassVar[Plan]


def attempt(session: FastHttpSession, method: str, path: str, body: bytes) -> Answer:
    """One request, counted by locust; a failure has the problem document's words."""
    options: dict[str, Any] = {"data": body, "headers": Run.plan.headers}
    with session.request(method, path, catch_response=True, **options) as response:
        headers = response.headers or {}
        answer = Answer(response.status_code, response.content or b"", headers.get("Retry-After", ""))
        if not answer.is_good:
            said = str(response.error) if answer.status == 0 else answer.body[:300].decode(errors="replace")
            response.failure(f"{answer.status}: {said}")
    return answer


class Shopper(FastHttpUser):
    """Page after page of one session, then another session. A page is one task, so that none is left half done."""

    network_timeout = 10.0
    connection_timeout = 10.0

    def on_start(self) -> None:
        number = next(_NUMBERS)
        self._rng = np.random.default_rng([Run.plan.seed, number, 3])
        self._jitter = Random(number)
        self._visit: Visit | None = None
        self._session_id = ""

    def wait_time(self) -> float:
        return float(self._rng.exponential(Run.plan.think_seconds))

    @task
    def page(self) -> None:
        if self._visit is None:
            self._visit, self._session_id = Run.plan.product.visit(self._rng), _new_id("s")
        response = self._look(self._visit)
        if response is None or response.is_last:
            self._visit = None

    def _look(self, visit: Visit) -> Response | None:
        """None: the page was refused, or the run is over."""
        request = visit.request()
        request.session_id, request.decision_id = self._session_id, _new_id("d")
        answer = self._ask("/recommend", request)
        if not answer.is_good:
            return None
        shown = _DECODE(answer.body)
        response = visit.respond(shown)
        version = None if shown.policy is None else shown.policy.version
        Run.plan.tally.decided(int(time.time()), version, response.reward)
        self._say(_messages(shown.decision_id, response))
        return response

    def _say(self, messages: list[FeedbackEvent]) -> None:
        plan = Run.plan
        if not messages:
            return
        if plan.outbox.num_producers and self._rng.random() < plan.kafka_share:
            plan.outbox.put(messages)
            return
        answer = self._ask("/feedback", messages)
        plan.tally.sent((str(event.event_id) for event in messages), is_acknowledged=answer.is_good)

    def _ask(self, path: str, content: RecommendRequest | list[FeedbackEvent]) -> Answer:
        body = _ENCODE(content)
        return ask(lambda: attempt(self.client, "POST", path, body), time.sleep, self._is_over, self._jitter)

    def _is_over(self) -> bool:
        return self.environment.runner is None or self.environment.runner.state in OVER


class Producer(User):
    """Writes shoppers' feedback to Kafka, up to 100 events a record, and waits until the broker has it."""

    abstract = True  # until there is a Kafka
    wait_time = constant(0)

    def on_start(self) -> None:
        try:
            self._producer = PackingProducer(Run.plan.kafka)
        except LogUnavailableError as error:
            _give_up(str(error))
        Run.plan.outbox.num_producers += 1

    @task
    def write(self) -> None:
        if events_taken := Run.plan.outbox.take():
            self._send(events_taken)
        else:
            time.sleep(_IDLE_SECONDS)

    def on_stop(self) -> None:
        """What is still waiting goes too."""
        Run.plan.outbox.num_producers -= 1
        while events_taken := Run.plan.outbox.take():
            self._send(events_taken)
        self._producer.close()

    def _send(self, taken: list[FeedbackEvent]) -> None:
        is_acknowledged = self._attempt(taken)
        while not is_acknowledged and not self._is_over():
            time.sleep(_IDLE_SECONDS)
            is_acknowledged = self._attempt(taken)
        Run.plan.tally.sent((str(event.event_id) for event in taken), is_acknowledged=is_acknowledged)

    def _attempt(self, taken: list[FeedbackEvent]) -> bool:
        with self.environment.events.request.measure("KAFKA", "feedback") as measured:
            measured["response_length"] = 0
            try:
                measured["response_length"] = self._producer.send(taken)
            except KafkaError as error:
                measured["exception"] = error
        return "exception" not in measured or measured["exception"] is None

    def _is_over(self) -> bool:
        return self.environment.runner is None or self.environment.runner.state in OVER


def _new_id(kind: str) -> str:
    return f"{Run.plan.run}-{kind}{next(_NUMBERS)}"


def _messages(decision_id: str, response: Response) -> list[FeedbackEvent]:
    return [
        FeedbackEvent(decision_id, event.kind, f"{decision_id}-{i}", event.item_id, event.value)
        for i, event in enumerate(response.events)
    ]


# ------------------------------------------------------------------ the run


def _add_options(parser: LocustArgumentParser) -> None:
    add_options(parser)


def _begin(environment: Environment, **_: Any) -> None:
    assert environment.parsed_options is not None
    try:
        Run.plan = make_plan(environment.parsed_options)
    except (LoopFileError, WorldError, ThresholdsError) as error:
        _give_up(str(error))
    time.sleep(0.001)  # gevent's: its timers, --run-time too, count from when its loop ran last
    if Run.plan.kafka:
        Producer.fixed_count = Run.plan.num_producers
        environment.user_classes.append(Producer)


def _fill_catalogue(environment: Environment, **_: Any) -> None:
    """Once the ranker is up; with several processes only the first one does it."""
    items = Run.plan.product.catalogue()
    if isinstance(environment.runner, WorkerRunner) or not items:
        return
    session = FastHttpSession(environment.host, environment.events.request, user=None)
    deadline = time.monotonic() + _START_SECONDS
    for first in range(0, len(items), MAX_ITEMS_PER_PUT):
        body = _ENCODE(items[first : first + MAX_ITEMS_PER_PUT])
        put = ask(
            lambda body=body: attempt(session, "PUT", "/items", body),  # type: ignore[misc]  # mypy and defaults
            time.sleep,
            lambda: time.monotonic() > deadline,
            Random(0),
        )
        if not put.is_good:
            _give_up(f"{environment.host} does not take items: {put.status} {put.body[:300].decode(errors='replace')}")


def _tell(data: dict[str, Any], **_: Any) -> None:
    data["steadyrank"] = Run.plan.tally.take()


def _hear(data: Mapping[str, Any], **_: Any) -> None:
    Run.plan.tally.add(data["steadyrank"])


def _conclude(environment: Environment, **_: Any) -> None:
    """Writes the figures and judges them, in the process that has them all."""
    if isinstance(environment.runner, WorkerRunner):
        return
    plan, figures = Run.plan, _figures(environment)
    if plan.folder is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        plan.tally.write_ids(plan.folder)
        (plan.folder / FIGURES).write_text(json.dumps(figures, indent=2) + "\n")
    if plan.thresholds is not None:
        verdicts = judge(plan.thresholds, figures)
        sys.stdout.write("\n".join([*summary(figures), "", *table(verdicts)]) + "\n")
        environment.process_exit_code = int(any(verdict.is_kept is False for verdict in verdicts))


def _figures(environment: Environment) -> dict[str, Any]:
    stats, random = environment.stats, Run.plan.product.random_reward
    entries = {(name, method): entry for (name, method), entry in stats.entries.items()}
    kafka = [entry for (_, method), entry in entries.items() if method == "KAFKA"]
    return {
        "seconds": (stats.last_request_timestamp or 0.0) - stats.start_time if stats.num_requests else 0.0,
        "requests": _rates(stats.total),
        "routes": {name: _route(entry) for (name, method), entry in entries.items() if method != "KAFKA"},
        **({"kafka": _route(kafka[0])} if kafka else {}),
        **({} if random is None else {"learning": Run.plan.tally.learning(random)}),
    }


def _rates(entry: StatsEntry) -> dict[str, float]:
    return {"num": entry.num_requests, "failed_share": entry.fail_ratio, "per_second": entry.total_rps}


def _route(entry: StatsEntry) -> dict[str, float]:
    percentiles = {f"p{p}_ms": entry.get_response_time_percentile(p / 100) for p in (50, 95, 99)}
    return _rates(entry) | percentiles


def _give_up(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    raise SystemExit(BAD_INPUT)


for event, listener in (
    (events.init_command_line_parser, _add_options),
    (events.init, _begin),
    (events.test_start, _fill_catalogue),
    (events.report_to_master, _tell),
    (events.worker_report, _hear),
    (events.quitting, _conclude),
):
    event.add_listener(listener)  # type: ignore[no-untyped-call]  # locust's
