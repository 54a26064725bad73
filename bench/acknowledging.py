"""The ranker without its event log: it does all else, checks events and acknowledges them, and keeps nothing.

`python -m bench.acknowledging PORT FOLDER`
"""

import gc
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from bench.echo import run
from schemas.loop_file import read_loop
from schemas.settings import Settings
from service.app import create_app
from service.bootstrap import make_parts
from service.durable_log import Kept
from service.feedback import FeedbackIntake, FeedbackRules
from service.hot_http import hot_protocol
from service.ids import IdSource
from service.packing import Packer
from service.together import Settle
from storage.event_log import EventLogWriter, Topic


class NoLog(EventLogWriter):
    """Acknowledges at once what it forgets."""

    def append(self, topic: Topic, value: bytes) -> Future[None]:  # noqa: ARG002
        done = Future[None]()
        done.set_result(None)
        return done

    def close(self) -> None: ...


class NoPacker(Packer):
    """Takes all, and packs nothing: what is left of feedback is to check it."""

    def append(self, elements: bytes, settle: Settle[Kept]) -> None:  # noqa: ARG002
        settle("log")


def main(port: int, folder: Path) -> None:
    settings = Settings(data=folder / "data", loop=folder / "loop.toml")
    loop = read_loop(settings.loop)
    with patch("service.bootstrap.open_writer", lambda *_: NoLog()):
        parts = make_parts(settings, loop)
    rules = FeedbackRules(loop.feedback_kinds, time.time, IdSource(b"validating.."))
    intake = FeedbackIntake(rules, NoPacker(parts.log, "feedback"), parts.metrics)
    sys.setswitchinterval(0.0005)  # as `service.serve` does, both
    gc.set_threshold(50_000)
    app = create_app(replace(parts, feedback=intake))
    run(app, port, has_lifespan=True, http=hot_protocol(app.hot_routes))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
