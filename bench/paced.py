"""An open-loop client: requests leave at a given rate, whether the server keeps up or not.

Latency counts from when a request was to be sent (Tene 2013, "coordinated omission"), so that a stall is felt by all
requests that it held up.
"""

import math
import multiprocessing
import os
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from bench.machine import run_first
from bench.rankers import load_core

NO_ANSWER = 0
"""The status of a request that got none."""
MAX_CONNECTIONS = 500
_PATIENCE_SECONDS = 5.0  # after the last request was sent
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Paced:
    """What became of R requests, in the order of their answers. Times are in seconds."""

    due: NDArray[np.float64]  # [R] when each was to be sent, since the start
    latency: NDArray[np.float64]  # [R] from then to the whole answer; of those without one to when that was given up
    status: NDArray[np.int64]  # [R] of HTTP, or NO_ANSWER
    start: float = 0.0
    """By `time.perf_counter`, a clock that all processes of a machine share."""

    def percentile(self, q: float, status: int = 200) -> float:
        """Of the latency of those with this status; NaN: there are none."""
        latencies = self.latency[self.status == status]
        return float(np.percentile(latencies, q)) if len(latencies) else float("nan")

    def due_within(self, start: float, end: float = math.inf) -> "Paced":
        """Those that were to be sent from `start` on and before `end`."""
        those = (start <= self.due) & (self.due < end)
        return Paced(self.due[those], self.latency[those], self.status[those], self.start)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(self.status.tolist())


def paced(url: str, bodies: Sequence[bytes], *, rate: float, seconds: float, goes_first: bool = False) -> Paced:
    """POSTs the bodies in turn, `rate` a second, from a process of its own on the core for load; in real time, where it
    `goes_first`: at a rate that leaves the core idle, or it takes it from all others.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, os.sched_setaffinity, (0, {load_core()})) as apart:
        if goes_first:
            apart.submit(drive, url, list(bodies), rate, 0.0).result()  # loads its modules, among the others
            apart.submit(run_first, load_core()).result()
        return apart.submit(drive, url, list(bodies), rate, seconds).result()


def drive(url: str, bodies: Sequence[bytes], rate: float, seconds: float) -> Paced:
    """As `paced`, in this process."""
    return _Client(url, bodies).run(rate, seconds)


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    due: float = 0.0
    received: bytearray = field(default_factory=bytearray)


class _Client:
    """One thread and `select`, whose timeout counts microseconds where asyncio's counts milliseconds."""

    def __init__(self, url: str, bodies: Sequence[bytes]) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._free: deque[_Connection] = deque()
        self._busy: dict[socket.socket, _Connection] = {}
        self._results: list[tuple[float, float, int]] = []

    def run(self, rate: float, seconds: float) -> Paced:
        num, sent, start = round(rate * seconds), 0, time.perf_counter()
        while sent < num or self._busy:
            now = time.perf_counter() - start
            while sent < num and sent / rate <= now and self._send(sent / rate, sent, start):
                sent += 1
            if sent == num and now > seconds + _PATIENCE_SECONDS:
                break
            if sent < num:
                self._receive(start, max(0.0, sent / rate - now))
            elif self._busy:
                self._receive(start, _PATIENCE_SECONDS)
        end = time.perf_counter() - start
        for connection in [*self._busy.values()]:
            self._finish(connection, end, NO_ANSWER)
        return self._paced(start)

    def _send(self, due: float, number: int, start: float) -> bool:
        """Whether it was sent, or cannot be; False: it waits for a connection."""
        if not self._free and len(self._busy) >= MAX_CONNECTIONS:
            return False
        try:
            connection = self._free.popleft() if self._free else _Connection(self._connected())
        except OSError:
            self._results.append((due, time.perf_counter() - start - due, NO_ANSWER))
            return True
        connection.due = due
        self._busy[connection.socket] = connection
        try:
            connection.socket.sendall(self._requests[number % len(self._requests)])
        except OSError:
            self._finish(connection, time.perf_counter() - start, NO_ANSWER)
        return True

    def _connected(self) -> socket.socket:
        connected = socket.create_connection(self._address, timeout=_PATIENCE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def _receive(self, start: float, timeout: float) -> None:
        """What has come, or comes within this time."""
        if len(self._busy) >= MAX_CONNECTIONS:
            timeout = _PATIENCE_SECONDS  # nothing can be sent before something came
        readable, _, _ = select.select([*self._busy], [], [], timeout)
        for each in readable:
            self._read(self._busy[each], start)

    def _read(self, connection: _Connection, start: float) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        connection.received += data
        if not data:
            self._finish(connection, time.perf_counter() - start, NO_ANSWER)
        elif _is_whole(connection.received):
            self._finish(connection, time.perf_counter() - start, int(connection.received[9:12]))

    def _finish(self, connection: _Connection, now: float, status: int) -> None:
        self._results.append((connection.due, now - connection.due, status))
        del self._busy[connection.socket]
        if status == NO_ANSWER or b"connection: close" in connection.received.lower():
            connection.socket.close()
        else:
            connection.received.clear()
            self._free.append(connection)

    def _paced(self, start: float) -> Paced:
        for connection in self._free:
            connection.socket.close()
        results = np.array(self._results, np.float64).reshape(-1, 3)
        return Paced(results[:, 0], results[:, 1], results[:, 2].astype(np.int64), start)


def _is_whole(received: bytearray) -> bool:
    """Whether an answer with a content-length is there with all of its body."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    _, _, rest = bytes(received[:end]).lower().partition(b"content-length:")
    return len(received) >= end + 4 + int(rest.split(b"\r\n", 1)[0])
