"""Real Kafka and PostgreSQL for the tests, each started for the first test that asks and shared by all.

A test may not run only where someone allowed it, and then the last lines of the run say so.
"""

import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from loadtest.parts.server import PartUnavailableError

if TYPE_CHECKING:
    from loadtest.parts.kafka import LocalKafka
    from loadtest.parts.postgresql import LocalPostgres

KAFKA = "STEADYRANK_TEST_KAFKA"
"""The environment variable with the bootstrap address of a broker to use instead of one of our own."""
ALLOW_NO_KAFKA = "ALLOW_NO_KAFKA"

KAFKA_PART = "Apache Kafka"
MISSING = pytest.StashKey[dict[str, str]]()
"""By the name of a part that cannot be had: why."""


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python reads its own schemas by an old function, as it is imported; where, depends on Python's version.
    config.addinivalue_line("filterwarnings", "ignore:(open|read)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def kafka_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a broker that others use too: topics and groups want names of their own."""
    named = os.environ.get(KAFKA)
    if named:
        yield named
        return
    with _kafka(request.config, tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.servers


@pytest.fixture
def own_kafka(request: pytest.FixtureRequest, tmp_path: Path) -> "Iterator[LocalKafka]":
    """A running broker for this test alone, which may freeze and kill it."""
    with _kafka(request.config, tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture(scope="module")
def mortal_kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[LocalKafka]":
    """A running broker that the tests of one module share, which may freeze and kill it."""
    with _kafka(request.config, tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@contextmanager
def _kafka(config: pytest.Config, folder: Path) -> "Iterator[LocalKafka]":
    from loadtest.parts.kafka import LocalKafka  # noqa: PLC0415 (most runs need no broker and start faster without)

    broker = LocalKafka(folder)
    try:
        broker.start()
    except PartUnavailableError as error:
        _go_without(config, error)
    yield broker
    broker.kill()


def _go_without(config: pytest.Config, error: PartUnavailableError, part: str = KAFKA_PART) -> NoReturn:
    config.stash.setdefault(MISSING, {})[part] = str(error)
    if os.environ.get(ALLOW_NO_KAFKA) == "1":
        pytest.skip(f"no {part}, and {ALLOW_NO_KAFKA}=1 allows that")
    pytest.fail(f"No {part}: {error} Or set {ALLOW_NO_KAFKA}=1 to go without.", pytrace=False)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[LocalPostgres]":
    """A server that others use too; it does not wait for the disk, so who pulls plugs starts one of their own."""
    from loadtest.parts.postgresql import LocalPostgres  # noqa: PLC0415 (the same)

    with LocalPostgres(tmp_path_factory.mktemp("postgresql"), durable=False) as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: "LocalPostgres") -> Iterator[str]:
    """Of an empty database, which is dropped after the test."""
    name = f"test_{uuid.uuid4().hex}"
    yield postgresql.create_database(name)
    postgresql.drop_database(name)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Below everything else, where it is seen."""
    yield
    for part, reason in config.stash.get(MISSING, {}).items():
        terminalreporter.section(f"NOT TESTED: {part}", red=True, bold=True)
        terminalreporter.line(f"What needs it did not run. {reason}", red=True)
