"""BentoML: one worker, no access log. Its batching takes lists only: a body is {"questions": [one]}, a reply [one]."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

from bench.torch_slates import Answers

_FOLDER, _BATCH = "PEER_FOLDER", "PEER_BATCH"
"""Environment variables for the worker, which BentoML starts."""
_MAX_WAIT_MS = 10_000
"""It refuses what would wait longer. It does not wait for a batch to fill."""
_batch = int(os.environ.get(_BATCH, "1"))


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Recommend:
    def __init__(self) -> None:
        self._answers = Answers(Path(os.environ[_FOLDER]))

    @bentoml.api(  # type: ignore[untyped-decorator]  # it brings no types where this is checked
        route="/recommend", batchable=_batch > 1, max_batch_size=max(_batch, 2), max_latency_ms=_MAX_WAIT_MS
    )
    async def recommend(self, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """On the event loop: a thread for each costs more than the ranking."""
        return self._answers.answers(questions)


def start(port: str, folder: str, batch: str) -> None:
    """Becomes BentoML's own command, which imports the service by its name."""
    os.environ |= {_FOLDER: folder, _BATCH: batch, "BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True"}
    serve = ["bentoml", "serve", "bench.peer_servers.bento:Recommend", "--host", "127.0.0.1", "--port", port]
    os.execv(sys.executable, [sys.executable, "-m", *serve])  # noqa: S606 (itself)


if __name__ == "__main__":
    start(*sys.argv[1:])
