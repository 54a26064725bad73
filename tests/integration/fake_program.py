"""Stands in for `steadyrank` as the program whose commands `up` runs: small, quick, and as bad as a test wants it."""

import argparse
import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

sys.path.insert(0, str(Path(__file__).parents[2]))

from service.up.lifeline import end_when_closed
from tests.e2e.fake_ranker import newborn
from tests.unit.up.lines import start, tick

NUM_ACCEPTED = 20


def serve(options: argparse.Namespace, stop: Event) -> None:
    began = time.time()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            now = time.time()
            totals = {"decisions": int(100 * (now - began)), "feedback_accepted": NUM_ACCEPTED}
            data = newborn(now) | {"totals": totals, "swaps": [{"at": began, "version": "000001"}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(data).encode())

    with ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = socket.socket(fileno=options.listener)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        stop.wait()
        server.shutdown()


def ingest(options: argparse.Namespace, stop: Event) -> None:
    """Ten events a second, so that those of the shoppers are not all stored when they leave."""
    from storage.database import open_store  # noqa: PLC0415 (the others start faster without)
    from storage.open_decisions import StoredEvent  # noqa: PLC0415
    from storage.replay_store import ReplayStore  # noqa: PLC0415

    store, now = ReplayStore(open_store(f"sqlite:///{options.data}/steadyrank.db")), time.time()
    for i in range(NUM_ACCEPTED):
        if stop.wait(0.1):
            return
        with store.transaction() as transaction:
            transaction.add_feedback([StoredEvent(f"e{i}", "d", None, "click", 1.0, now, now)])
    stop.wait()


def train(options: argparse.Namespace, stop: Event) -> None:
    sys.stdout.write(f"niceness {os.environ.get('STEADYRANK_TRAIN_SESSION_NICE')}\n")
    sys.stdout.flush()
    stop.wait()


def shoppers(options: argparse.Namespace, stop: Event) -> None:
    tell(start(options.world))
    num, reward = 0, 0.0
    while not stop.wait(0.05):
        num, reward = num + 5, reward + 2.5
        tell(tick(time.time(), num, reward, feedback_accepted=min(num, NUM_ACCEPTED)))
    tell(tick(time.time(), num, reward, "end", feedback_accepted=NUM_ACCEPTED))


def tell(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lazy", help="the command that does nothing")
    parser.add_argument("--confused", help="the command that does not understand")
    parser.add_argument("command", choices=["serve", "ingest", "train", "shoppers"])
    for option in ("--data", "--loop", "--world", "--url", "--shoppers", "--seed"):
        parser.add_argument(option)
    parser.add_argument("--listener", type=int)
    parser.add_argument("--until-stdin-closes", action="store_true", required=True)
    options = parser.parse_args()
    if options.command == options.confused:
        parser.error("what is a shop?")
    end_when_closed()
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    command = train if options.command == options.lazy else globals()[options.command]
    command(options, stop)


if __name__ == "__main__":
    main()
