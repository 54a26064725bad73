"""MLServer: without its parallel workers, which would be a second process on the same core."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler
from mlserver.settings import ModelParameters

from bench.torch_slates import Answers


class Recommend(MLModel):  # type: ignore[misc]  # it brings no types where this is checked
    async def load(self) -> bool:
        self._answers = Answers(Path(self.settings.parameters.uri))
        return True

    @custom_handler(rest_path="/recommend")  # type: ignore[untyped-decorator]  # likewise
    async def recommend(self, question: dict[str, Any]) -> dict[str, Any]:
        """A handler of our own takes and gives JSON as it is; its open inference protocol has tensors of strings."""
        return self._answers.answer(question)


async def serve(port: int, folder: Path) -> None:
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=port,
        grpc_port=0,
        metrics_endpoint=None,
        parallel_workers=0,
        gzip_enabled=False,
    )
    model = ModelSettings(name="recommend", implementation=Recommend, parameters=ModelParameters(uri=str(folder)))
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
