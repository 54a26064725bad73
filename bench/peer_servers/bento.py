"""BentoML: one worker, no access log."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

from bench.torch_slates import Answers

_FOLDER = "PEER_FOLDER"
"""The environment variable that tells the worker, which BentoML starts, where the policy is."""


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Recommend:
    def __init__(self) -> None:
        self._answers = Answers(Path(os.environ[_FOLDER]))

    @bentoml.api(route="/recommend")  # type: ignore[untyped-decorator]  # it brings no types where this is checked
    async def recommend(self, user_id: str, context: dict[str, Any], candidates: list[str]) -> dict[str, Any]:
        """On the event loop: a thread for each request costs more than the ranking."""
        return self._answers.answer({"user_id": user_id, "context": context, "candidates": candidates})


if __name__ == "__main__":
    port, os.environ[_FOLDER] = sys.argv[1], sys.argv[2]
    os.environ |= {"BENTOML_HOME": sys.argv[2], "BENTOML_DO_NOT_TRACK": "True"}
    serve = ["bentoml", "serve", "bench.peer_servers.bento:Recommend", "--host", "127.0.0.1", "--port", port]
    os.execv(sys.executable, [sys.executable, "-m", *serve])  # noqa: S606 (itself)
