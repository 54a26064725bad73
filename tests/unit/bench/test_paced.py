"""The open-loop client against a server whose pace is known."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from bench.paced import NO_ANSWER, drive

BODY = b'{"a": 1}'


@contextmanager
def serving(status: str = "200 OK", pause_seconds: float = 0.0, stall: tuple[int, float] = (-1, 0.0)) -> Iterator[str]:
    """One request at a time on each connection; all wait together while request number `stall[0]` is held."""
    gate, seen = threading.Lock(), iter(range(1_000_000))

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(65_536):
                assert data.endswith(BODY)
                with gate:
                    number = next(seen)
                    time.sleep(stall[1] if number == stall[0] else pause_seconds)
                reply = f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n"
                connection.sendall(reply.encode())  # in two parts, as servers do
                connection.sendall(b"{}")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/recommend"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=60)


def test_sends_at_the_rate_that_was_asked_for() -> None:
    with serving() as url:
        paced = drive(url, [BODY], rate=200, seconds=1)
    assert paced.statuses == {200: 200}
    assert np.allclose(np.sort(paced.due), np.arange(200) / 200)
    assert paced.percentile(10) < 0.02  # the others as the machine has time for them


def test_a_stall_is_felt_by_all_requests_that_were_due_meanwhile() -> None:
    with serving(stall=(50, 1.0)) as url:
        paced = drive(url, [BODY], rate=100, seconds=2.5)
    assert paced.latency.max() >= 0.98
    # 1 s at 100 a second, less those due near its end; of the 150 others a busy machine may hold up some as well.
    assert 75 <= (paced.latency > 0.2).sum() <= 150


def test_refusals_are_counted_apart() -> None:
    with serving("503 Service Unavailable") as url:
        paced = drive(url, [BODY], rate=50, seconds=0.4)
    assert paced.statuses == {503: 20}
    assert np.isnan(paced.percentile(99))
    assert paced.percentile(99, status=503) < 5


def test_a_server_that_hangs_up_gave_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        paced = drive(f"http://127.0.0.1:{listener.getsockname()[1]}/", [BODY], rate=50, seconds=0.2)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=60)
    assert paced.statuses == {NO_ANSWER: 10}


def test_a_server_that_is_not_there_gave_no_answer() -> None:
    with socket.socket() as silent:  # it keeps others from the port, and does not listen
        silent.bind(("127.0.0.1", 0))
        paced = drive(f"http://127.0.0.1:{silent.getsockname()[1]}/", [BODY], rate=50, seconds=0.2)
    assert paced.statuses == {NO_ANSWER: 10}


def test_a_slow_server_is_offered_as_much_as_a_fast_one() -> None:
    with serving(pause_seconds=0.002) as url:
        paced = drive(url, [BODY], rate=1_000, seconds=0.3)
    assert len(paced.due) == 300
    assert paced.latency.max() > 0.2  # 300 requests of 2 ms each, offered within 0.3 s
