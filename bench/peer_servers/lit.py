"""LitServe: one process for HTTP and one for inference, as it always has."""

import sys
from pathlib import Path
from typing import Any

import litserve

from bench.torch_slates import Answers

WAIT_SECONDS = 0.001
"""For a batch to fill."""


class Recommend(litserve.LitAPI):  # type: ignore[misc]  # it brings no types where this is checked
    def __init__(self, folder: Path, batch: int) -> None:
        super().__init__(api_path="/recommend", max_batch_size=batch, batch_timeout=WAIT_SECONDS if batch > 1 else 0)
        self._folder, self._batch = folder, batch

    def setup(self, device: str) -> None:  # noqa: ARG002 (its signature)
        self._answers = Answers(self._folder)

    def predict(self, x: Any) -> Any:
        """One request; with batching, a list of them."""
        return self._answers.answer(x) if self._batch == 1 else self._answers.answers(x)

    def unbatch(self, output: Any) -> Any:
        return output


if __name__ == "__main__":
    port, folder, batch = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    server = litserve.LitServer(Recommend(folder, batch), accelerator="cpu", fast_queue=False)
    server.run("127.0.0.1", port, num_api_servers=1, log_level="warning", access_log=False, generate_client_file=False)
