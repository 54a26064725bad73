"""TorchServe: its Java front end and one worker; the policy is a model folder whose handler is this file."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from bench.torch_slates import FILE, Answers

NAME = "recommend"
WAIT_MS = 1
"""For a batch to fill."""
_PROPERTIES = """
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{others[0]}
metrics_address=http://127.0.0.1:{others[1]}
grpc_inference_address=127.0.0.1
grpc_management_address=127.0.0.1
grpc_inference_port={others[2]}
grpc_management_port={others[3]}
number_of_netty_threads=1
netty_client_threads=1
disable_system_metrics=true
models={models}
"""
_LOG = """
<Configuration>
  <Appenders><Console name="console"><PatternLayout pattern="%p %c %m%n"/></Console></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""
_answers: list[Answers] = []


def handle(data: Any, context: Any) -> list[Any]:
    """TorchServe calls it once without data when the worker starts, then with batches of bodies."""
    if not _answers:
        _answers.append(Answers(Path(context.system_properties["model_dir"])))
    return _answers[0].answers([row["body"] for row in data]) if data else []


def write(folder: Path, port: int, batch: int) -> None:
    """Its settings, and the model as `torch-model-archiver` has it where it makes no archive."""
    model = folder / "store" / NAME
    (model / "MAR-INF").mkdir(parents=True)
    shutil.copy(__file__, model / "handler.py")
    shutil.copy(folder / FILE, model)
    manifest = {
        "runtime": "python",
        "model": {"modelName": NAME, "modelVersion": "1.0", "handler": "handler.py:handle"},
    }
    (model / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    settings = {"marName": NAME, "minWorkers": 1, "maxWorkers": 1, "batchSize": batch, "maxBatchDelay": WAIT_MS}
    models = json.dumps({NAME: {"1.0": settings | {"defaultVersion": True, "responseTimeout": 120}}})
    (folder / "ts.properties").write_text(_PROPERTIES.format(port=port, others=_free_ports(4), models=models))
    (folder / "log.xml").write_text(_LOG)


def _free_ports(num: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(num)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


if __name__ == "__main__":
    port, folder, batch = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    write(folder, port, batch)
    os.environ |= {"TMPDIR": str(folder), "LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder)}
    serve = ["ts.model_server", "--start", "--foreground", "--ncs", "--disable-token-auth", "--models", NAME]
    where = ["--model-store", f"{folder}/store", "--ts-config", f"{folder}/ts.properties"]
    os.execv(sys.executable, [sys.executable, "-m", *serve, *where, "--log-config", f"{folder}/log.xml"])  # noqa: S606
