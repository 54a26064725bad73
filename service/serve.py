"""`steadyrank serve`: the ranker's process."""

import asyncio
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from schemas.loop_file import Loop
from schemas.settings import Settings, SettingsError
from service.allocator import give_memory_back, share_one_arena
from service.app import create_app
from service.bootstrap import make_parts
from service.hot_http import hot_protocol
from service.parts import Parts

KEEP_ALIVE_SECONDS = 75
GRACE_SECONDS = 2
"""How long requests in flight may take once the process was told to end."""
_BACKLOG = 2_048
_ACCEPTS_PER_TURN = 16
"""Each costs every new connection a call of the kernel."""
_STOP_POLL_SECONDS = 0.1
_SETTLED_SECONDS = 1.0
"""After which what a start needs once is done with."""
_THREAD_TURN_SECONDS = 0.0005
"""How long the threads that log and load may keep a request waiting for Python; its own default is ten times that."""
_GC_ALLOCATIONS = 50_000
"""A request leaves no cycles behind: looking for some after every fifth, as by default, would cost it a twentieth."""

_log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again at the end: an orderly end would look like a death."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def run_serve(
    settings: Settings,
    loop: Loop,
    stop: threading.Event | None = None,
    listener: socket.socket | None = None,
    metrics_folder: Path | None = None,
) -> None:
    """Serves until SIGINT, SIGTERM or `stop`; then logs the last decisions and returns.

    With a `listener` that a supervisor holds too, whoever connects while the ranker is restarted waits instead of being
    refused. Workers that share a port share a `metrics_folder`, too, and each tells of all at `/metrics`.

    Raises:
        SettingsError: the address cannot be bound.
    """
    listener = listener or listen(settings, shared=metrics_folder is not None)
    sys.setswitchinterval(_THREAD_TURN_SECONDS)
    gc.set_threshold(_GC_ALLOCATIONS)
    gc.enable()
    share_one_arena()
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(make_parts(settings, loop, metrics_folder=metrics_folder), listener, stop))


async def _serve(parts: Parts, listener: socket.socket, stop: threading.Event | None) -> None:
    app = create_app(parts)
    config = uvicorn.Config(
        app,
        loop="none",  # this one
        http=hot_protocol(app.hot_routes),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a middleware, for what nobody asks
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    host, port = listener.getsockname()[:2]
    _log.info("%s: serving on http://%s:%d", parts.loop.name, f"[{host}]" if ":" in host else host, port)
    waiting = asyncio.create_task(_stop(server, stop)) if stop is not None else None
    asyncio.get_running_loop().call_later(_SETTLED_SECONDS, give_memory_back)
    try:
        await server.serve(sockets=listeners(listener))
    finally:
        if waiting is not None:
            waiting.cancel()


def listeners(listener: socket.socket) -> list[socket.socket]:
    """The same socket many times: uvloop takes one connection of each in a turn of its loop (libuv #3696). Under load,
    where a turn takes milliseconds, of those that come at once the last would wait for seconds.
    """
    return [listener, *(listener.dup() for _ in range(_ACCEPTS_PER_TURN - 1))]


async def _stop(server: uvicorn.Server, stop: threading.Event) -> None:
    while not stop.is_set():  # noqa: ASYNC110 (the event is a thread's)
        await asyncio.sleep(_STOP_POLL_SECONDS)
    server.should_exit = True


def listen(settings: Settings, *, shared: bool = False) -> socket.socket:
    """A socket on the address of the settings, which others may share that do so too.

    Raises `SettingsError`: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as error:
        raise SettingsError(
            f"STEADYRANK_HOST, STEADYRANK_PORT: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
