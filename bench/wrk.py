"""wrk: as many requests as a server takes, from one core."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.rankers import load_core

_SCRIPT = """
local requests, at = {}, 0
function init(_)
  for body in io.lines("%(bodies)s") do
    requests[#requests + 1] = wrk.format("POST", wrk.path, {["Content-Type"] = "application/json"}, body)
  end
end
function request()
  at = at %% #requests + 1
  return requests[at]
end
function done(summary, latency, _)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('\\n{"num_requests": %%d, "seconds": %%f, "num_bad": %%d, "p50": %%f, "p99": %%f}\\n',
    summary.requests, summary.duration / 1e6, bad, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


class WrkMissingError(Exception):
    """wrk is not installed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw. Times are in seconds."""

    num_requests: int
    seconds: float
    num_bad: int
    """Answers that were not 2xx or 3xx, and connections that failed."""
    p50: float
    p99: float
    """Of all requests, each sent as soon as its connection was free: of a server at its limit."""

    @property
    def num_good(self) -> int:
        return self.num_requests - self.num_bad

    @property
    def a_second(self) -> float:
        """Good answers."""
        return self.num_good / self.seconds


def wrk(url: str, bodies: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """POSTs the bodies in turn, each connection its next as soon as it has its answer.

    Args:
        url: with the path.
        bodies: JSON, each without line breaks.
        connections: how many.
        seconds: how long; wrk counts whole ones, at least 1.

    Raises:
        WrkMissingError: there is no wrk on this machine.
    """
    program = shutil.which("wrk")
    if program is None:
        raise WrkMissingError("there is no wrk on this machine: apt-get install wrk, or build github.com/wg/wrk")
    with tempfile.TemporaryDirectory() as name:
        lines, script = Path(name) / "bodies", Path(name) / "post.lua"
        lines.write_bytes(b"".join(body + b"\n" for body in bodies))
        script.write_text(_SCRIPT % {"bodies": lines})
        pinned = ["taskset", "-c", str(load_core()), program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command = [*pinned, "--timeout", "10s", "-s", str(script), url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 (ours)
    return Load(**json.loads(said.splitlines()[-1]))
