"""Producers in other languages, as docs/producers.md has them: their clicks join their decisions."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from typing import Any, Self

import pytest

from loadtest.ingest import Ingest, command
from loadtest.parts.kafka import LocalKafka, find_java, kafka_jars
from loadtest.parts.process import ProcessTree, wait_until
from loadtest.parts.server import PartUnavailableError, free_port
from schemas.settings import Settings
from tests import parts

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "producers.md"
BROKER = "localhost:9092"
KAFKAJS = "kafkajs@2.2.4"
LOOP_TEXT = """
name = "outside"
[item]
id = { kind = "category", buckets = 16 }
[action]
kind = "slate"
size = 3
[reward]
click = 1.0
wait = "10m"
closes = ["click"]       # so that nobody waits for the window
[learner]
agent = "dqn"
[exploration]
kind = "softmax"
"""
SECONDS = 60.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def kafkajs(request: pytest.FixtureRequest) -> Path:
    """A folder with its `node_modules`, fetched once a user and version."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "steadyrank" / KAFKAJS.replace("@", "-")
    try:
        return folder if folder.is_dir() else _fetched(folder)
    except PartUnavailableError as error:
        parts._go_without(request.config, error, "kafkajs")


def _fetched(folder: Path) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise PartUnavailableError("No Node.js with npm was found. Install Node.js 18 or later.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", f"{temporary}/whole", KAFKAJS]
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            raise PartUnavailableError(f"npm could not fetch {KAFKAJS}: {done.stderr[-1000:]}")
        (Path(temporary) / "whole").rename(folder)
    return folder


class Product:
    """A ranker and ingest, and their answers."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.servers = settings.kafka
        self.folder = folder
        self._settings = settings
        self._port = free_port()

    @contextmanager
    def running(self) -> Iterator[Self]:
        serve = command(self._settings, "serve", "--port", str(self._port))
        with Ingest(self._settings, self.folder):
            ranker = ProcessTree(serve, self.folder / "serve.log")
            try:
                assert wait_until(lambda: self.ask("/readyz"), SECONDS), (self.folder / "serve.log").read_text()
                yield self
            finally:
                ranker.terminate(SIGTERM, SECONDS)

    def ask(self, path: str, body: object = None) -> Any:
        """The answer; None if it is no good one."""
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", sent)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    def joined(self, decision_id: str) -> Any:
        """The story of a decision, once its reward is final."""

        def is_joined() -> bool:
            story = self.ask(f"/decisions/{decision_id}")
            return bool(story) and story["state"] == "joined"

        assert wait_until(is_joined, SECONDS, 0.1)
        return self.ask(f"/decisions/{decision_id}")

    def run(self, name: str, code: str, *arguments: str, **environment: str) -> Callable[[], None]:
        """Starts an example of the page with this broker; what is returned waits for it to end."""
        assert code.count(BROKER) == 1
        file = self.folder / name
        file.write_text(code.replace(BROKER, self.servers))
        process = subprocess.Popen(
            [*arguments[:-2], str(file), *arguments[-2:]],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def end() -> None:
            said, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, said

        return end


@pytest.fixture
def product(own_kafka: LocalKafka, tmp_path: Path) -> Iterator[Product]:
    loop = tmp_path / "loop.toml"
    loop.write_text(LOOP_TEXT)
    with Product(Settings(data=tmp_path / "data", loop=loop, kafka=own_kafka.servers), tmp_path).running() as product:
        yield product


def examples() -> dict[str, str]:
    """By their language."""
    found = re.findall(r"^```(js|java|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert sorted(language for language, _ in found) == ["java", "js", "python"]
    return dict(found)


def test_clicks_of_producers_in_other_languages_join_their_decisions(product: Product, kafkajs: Path) -> None:
    code = examples()
    decisions = {each: product.ask("/recommend", {"candidates": ["a", "b", "c"]}) for each in code}
    clicks = {each: (decisions[each]["decision_id"], decisions[each]["items"][1]["item_id"]) for each in code}
    modules = str(kafkajs / "node_modules")
    ends = [
        product.run("producer.js", code["js"], "node", *clicks["js"], NODE_PATH=modules),
        product.run("Producer.java", code["java"], str(find_java()), "-cp", f"{kafka_jars()}/*", *clicks["java"]),
        product.run("producer.py", code["python"], sys.executable, *clicks["python"]),
    ]
    for end in ends:
        end()
    for decision_id, item_id in clicks.values():
        story = product.joined(decision_id)
        assert [(event["item_id"], event["kind"], event["value"]) for event in story["events"]] == [
            (item_id, "click", 1)
        ]
        assert story["rewards"] == [0, 1, 0]
