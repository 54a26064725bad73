"""Ray Serve: one replica behind its proxy, with the settings that its documentation names for throughput."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

# Ray reads them when it is imported; its token and its files go where the policy is.
os.environ |= {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0", "HOME": sys.argv[2]}

import ray
from ray import serve
from starlette.requests import Request

from bench.torch_slates import Answers

WAIT_SECONDS = 0.001
"""For a batch to fill."""


class Recommend:
    def __init__(self, folder: Path, batch: int) -> None:
        self._answers, self._batch = Answers(folder), batch
        self.together.set_max_batch_size(batch)

    async def __call__(self, request: Request) -> Any:
        question = await request.json()
        return self._answers.answer(question) if self._batch == 1 else await self.together(question)

    @serve.batch(batch_wait_timeout_s=WAIT_SECONDS)  # type: ignore[untyped-decorator]
    async def together(self, questions: list[Any]) -> list[Any]:
        return self._answers.answers(questions)


async def forever() -> None:
    await asyncio.Event().wait()


if __name__ == "__main__":
    port, folder, batch = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=str(folder / "ray"))
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    deployed = serve.deployment(max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})(Recommend)
    serve.run(deployed.bind(folder, batch), route_prefix="/recommend")
    asyncio.run(forever())
