"""Real Kafka and PostgreSQL, frozen and killed: what they acknowledged is there afterwards.

What our own tests conclude from kills of the parts stands on this.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types
import psycopg
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]  # the same
from kafka.admin import NewTopic  # type: ignore[import-untyped]  # the same

from loadtest.parts.kafka import LocalKafka, find_java, kafka_jars
from loadtest.parts.postgresql import LocalPostgres
from loadtest.parts.process import ProcessTree, wait_until
from loadtest.parts.server import LocalServer, PartFailedError, PartUnavailableError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BIG = b"." * (9 << 20)
"""More than a broker takes by default."""


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[LocalPostgres]:
    with LocalPostgres(tmp_path / "postgresql") as server:
        yield server


def make_topic(broker: LocalKafka) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.servers)
    admin.create_topics([NewTopic("t", 2, 1)])
    admin.close()


def produce(broker: LocalKafka, *values: bytes) -> None:
    """Returns when all are acknowledged."""
    producer = KafkaProducer(bootstrap_servers=broker.servers, max_request_size=16 << 20)
    for future in [producer.send("t", value) for value in values]:
        future.get(timeout=60)
    producer.close()


def consume(broker: LocalKafka, num: int) -> list[bytes]:
    """The first `num` values, sorted, and whatever comes within half a second after them."""
    consumer = KafkaConsumer("t", bootstrap_servers=broker.servers, auto_offset_reset="earliest")
    values: list[bytes] = []

    def poll() -> int:
        polled = consumer.poll(timeout_ms=500)
        values.extend(record.value for records in polled.values() for record in records)
        return len(polled)

    assert wait_until(lambda: poll() == 0 and len(values) >= num, 60), f"{len(values)} of {num}"
    consumer.close()
    return sorted(values)


def connect(server: LocalPostgres) -> psycopg.Connection:
    return psycopg.connect(server.url("postgres").replace("+psycopg", ""), connect_timeout=5)


def is_stopped(server: LocalServer) -> bool:
    root = psutil.Process(server.pid)
    return all(process.status() == psutil.STATUS_STOPPED for process in (root, *root.children()))


def test_kafka_keeps_what_it_acknowledged_over_kill_9_a_freeze_and_a_stop(own_kafka: LocalKafka) -> None:
    make_topic(own_kafka)
    first, second = [b"%04d" % i for i in range(1000)], [b"%04d" % i for i in range(1000, 2000)]
    produce(own_kafka, *first)
    own_kafka.kill()
    assert not own_kafka.is_running
    own_kafka.start()
    produce(own_kafka, BIG, *second)
    own_kafka.pause()
    assert is_stopped(own_kafka)
    assert own_kafka.is_running
    own_kafka.resume()
    own_kafka.wait()
    own_kafka.restart()
    assert consume(own_kafka, 2001) == [BIG, *first, *second]


def test_kafkas_jars_hold_the_java_client(kafka_servers: str) -> None:
    command = [str(find_java()), "-cp", f"{kafka_jars()}/*", "org.apache.kafka.clients.producer.ProducerConfig"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "bootstrap.servers" in done.stdout, done.stderr


def test_postgresql_keeps_what_was_committed_over_kill_9(postgres: LocalPostgres) -> None:
    with connect(postgres) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    open_transaction = connect(postgres)
    open_transaction.execute("INSERT INTO t VALUES (1001)")
    processes = psutil.Process(postgres.pid).children()
    postgres.kill()
    assert len(processes) > 3
    assert not any(psutil.pid_exists(process.pid) and process.status() != "zombie" for process in processes)
    postgres.start()
    with connect(postgres) as connection:
        assert connection.execute("SELECT count(*), max(i) FROM t").fetchone() == (1000, 1000)
    open_transaction.close()


def test_postgresql_freezes_with_its_backends_and_thaws(postgres: LocalPostgres) -> None:
    with connect(postgres) as connection:
        postgres.pause()
        assert is_stopped(postgres)
        with pytest.raises(psycopg.OperationalError):
            connect(postgres)
        postgres.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    postgres.restart()
    connect(postgres).close()


def test_a_database_of_a_test_is_empty_and_its_own(postgresql: LocalPostgres, postgresql_url: str) -> None:
    name = postgresql_url.rpartition("/")[2]
    with psycopg.connect(postgresql_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (name,)
        assert connection.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone() == (0,)


def test_a_taken_port_is_not_taken_for_the_part(postgresql: LocalPostgres, tmp_path: Path) -> None:
    second = LocalPostgres(tmp_path, postgresql.port)
    with pytest.raises(PartFailedError, match="another server listens"):
        second.start()
    assert not second.is_running


def test_a_part_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    server = LocalPostgres(tmp_path)
    server.start()
    server.stop()
    (tmp_path / "data" / "global" / "pg_control").unlink()
    with pytest.raises(PartFailedError, match="could not find the database system"):
        server.start()
    assert not server.is_running


def test_old_or_absent_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(PartUnavailableError, match="No Java was found"):
        find_java()
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("""#!/bin/sh\necho 'openjdk version "11.0.2" 2019-01-15' >&2\n""")
    java.chmod(0o755)
    with pytest.raises(PartUnavailableError, match="not Java 17 or later"):
        find_java()


def test_processes_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\n"
        "from loadtest.parts.process import ProcessTree\n"
        f"tree = ProcessTree(['sleep', '60'], pathlib.Path({str(tmp_path / 'log')!r}))\n"
        "print(tree.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    assert wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 60)


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    tree = ProcessTree(["sh", "-c", "trap 'echo no' TERM; echo deaf; while :; do sleep 0.05; done"], tmp_path / "log")
    assert wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), 60)
    tree.terminate(signal.SIGTERM, 0.3)
    tree.kill()  # as often as one likes
    assert not tree.is_running
    assert "no" in (tmp_path / "log").read_text()
