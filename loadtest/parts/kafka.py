"""Apache Kafka, one node in KRaft mode, from its Maven artefacts and the machine's Java."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kafka import KafkaAdminClient  # type: ignore[import-untyped]  # it brings no types
from kafka.errors import KafkaError  # type: ignore[import-untyped]  # the same

from loadtest.parts.server import LocalServer, PartUnavailableError, free_port

POM = Path(__file__).with_name("kafka.pom.xml")
MIN_JAVA = 17

_HINT = "Install Java 17 or later and Maven, or name a running broker in STEADYRANK_TEST_KAFKA."
_FETCH_SECONDS = 600
_JAVA_OPTIONS = ("-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_CLUSTER_ID = "c3RlYWR5cmFuay1wYXJ0cw"  # "steadyrank-parts": Kafka wants 16 bytes in base64
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
message.max.bytes={max_bytes}
replica.fetch.max.bytes={max_bytes}
"""
_MAX_BYTES = 16 << 20


def find_java() -> Path:
    """The `java` of JAVA_HOME, else the one on the path.

    Raises:
        PartUnavailableError: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found is None:
        raise PartUnavailableError(f"No Java was found. {_HINT}")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < MIN_JAVA:
        raise PartUnavailableError(f"{found} is not Java {MIN_JAVA} or later: {said.strip()!r}. {_HINT}")
    return Path(found)


def kafka_jars() -> Path:
    """The folder with Kafka's jars, broker and Java client: fetched by Maven once a user and version, then kept.

    Raises:
        PartUnavailableError: they are not there and cannot be fetched.
    """
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "steadyrank" / f"kafka-{version}" / "lib"
    if not folder.is_dir():
        _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise PartUnavailableError(f"Kafka's jars are not in {folder}, and no Maven was found to fetch them. {_HINT}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        command = [
            maven,
            "-q",
            "-B",
            "-f",
            str(POM),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={temporary}/lib",
        ]
        done = subprocess.run(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=_FETCH_SECONDS
        )
        if done.returncode != 0:
            raise PartUnavailableError(f"Maven could not fetch Kafka's jars. {_HINT}\n{done.stdout[-2000:]}")
        _put_in_place(Path(temporary) / "lib", folder)


def _put_in_place(fetched: Path, folder: Path) -> None:
    """A rename, so that the folder is complete from the moment that it is there."""
    try:
        fetched.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise


class LocalKafka(LocalServer):
    """A broker at `servers`; it takes records of up to 16 MiB and makes no topics by itself."""

    name = "kafka"

    def __init__(self, folder: Path, port: int | None = None) -> None:
        super().__init__(folder, port)
        self._controller_port = free_port()

    @property
    def servers(self) -> str:
        """The bootstrap address."""
        return f"127.0.0.1:{self.port}"

    def _prepare(self) -> Sequence[str]:
        data, properties = self.folder / "data", self.folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(port=self.port, controller_port=self._controller_port, data=data, max_bytes=_MAX_BYTES)
        )
        java = [str(find_java()), *_JAVA_OPTIONS, "-cp", f"{kafka_jars()}/*"]
        if not (data / "meta.properties").exists():
            self._format([*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)])
        return [*java, "kafka.Kafka", str(properties)]

    def _format(self, command: Sequence[str]) -> None:
        with self.log.open("ab") as output:
            subprocess.run(command, stdout=output, stderr=output, check=True)  # noqa: S603

    def _answers(self) -> bool:
        """A broker that has just started lists itself only when partitions may have it as their leader."""
        if not self._listens():
            return False  # known at once, where the client would back off
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.servers, bootstrap_timeout_ms=1000)
        except KafkaError:
            return False
        try:
            return bool(admin.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            admin.close()
