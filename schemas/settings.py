"""Where a process finds its parts: the only place that reads the environment.

Every setting is an environment variable `STEADYRANK_NAME`; the command line overrides some.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_PREFIX = "STEADYRANK_"
_OF_OTHERS = ("STEADYRANK_TEST_", "STEADYRANK_BENCH_")
"""Prefixes of the variables of the tests and of the benchmark, which a process that they start may see."""


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the variable, the value and what would be right."""


class Settings(BaseModel):
    """What the deployment decides; what the problem decides is in the loop file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Path("data")
    """The data folder: `steadyrank.db`, `events.db`, `policies/`, `training/`."""
    loop: Path = Path("loop.toml")
    database_url: str = ""
    """Empty: SQLite in the data folder."""
    kafka: str = ""
    """Bootstrap servers, comma-separated; empty: the SQL event log."""
    kafka_topic_prefix: str = ""
    """Put before the names of the three topics, so that several loops share a broker."""
    kafka_group: str = "steadyrank"
    """The consumer group of ingest."""
    kafka_partitions: int = Field(default=4, ge=1)
    """Of the topics `decisions` and `feedback`, where they are made at the start."""
    kafka_replication: int = Field(default=1, ge=1)
    """Of all topics, where they are made at the start."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_ssl_password: str | None = None
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = None
    spool: str = ""
    """The folder where what is accepted waits while the event log is away. Empty: in the data folder; `off`: none, and
    `/feedback` answers 503 then."""
    spool_max_bytes: int = Field(default=1 << 30, ge=1 << 20)
    """Of each worker's spool; past it `/feedback` answers 503."""
    log_patience_seconds: float = Field(default=1.0, gt=0, le=30)
    """How long an answer waits for the event log before the spool takes over."""
    max_recommends: int = Field(default=128, ge=1)
    """`/recommend` requests that a worker answers at a time; one more hears 503 at once, and while that goes on
    fewer have room (`service.room`). A client that keeps more connections busy is better served by another worker."""
    max_wait_seconds: float = Field(default=0.5, gt=0)
    """The same by time: fewer are taken where so many answers would take longer, as of a large catalogue."""
    max_feedbacks: int = Field(default=4_096, ge=1)
    """`/feedback` requests that wait for the event log at a time; the same."""
    durable_decisions: bool = False
    """Whether `/recommend` answers only when the decision is in the event log, or in the spool."""
    virtualtb: Path | None = None
    """The folder of the weights of Virtual Taobao, for the study of that name."""
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where ingest and the learner answer `/metrics`; the ranker does so on its own port. Empty: nowhere.
    Under `up` ingest has this port and the learner the next one."""
    dead_letter_limit: bool = True
    """Whether ingest pauses where most of what it reads is bad; `off`: it goes on, whatever comes."""
    dead_letter_max_share: float = Field(default=0.5, ge=0, le=1)
    dead_letter_window: int = Field(default=10_000, ge=1)
    dead_letter_max_run: int = Field(default=1_000, ge=1)
    """Ingest pauses past this share of the last `window` elements, with the last `run` all bad."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    api_keys: str = ""
    """Comma-separated; empty: no key is asked for."""
    decision_log_seconds: float = Field(default=0.02, gt=0, le=10)
    """How long decisions are packed before they are appended. What a kill of the ranker may lose is this and the time
    that the log takes to acknowledge, at most `log_patience_seconds`; nothing with `durable_decisions`."""
    decision_log_max: int = Field(default=100_000, ge=1)
    """Decisions kept in memory while neither log nor spool takes them; the oldest go first, counted."""
    champion_poll_seconds: float = Field(default=0.5, gt=0)
    items_poll_seconds: float = Field(default=1.0, gt=0)
    keep_policies: int = Field(default=20, ge=1)
    train_threads: int = Field(default=1, ge=1)
    """Of the learner. Its networks are small: more threads cost more than they bring."""
    train_nice: int = Field(default=10, ge=0, le=19)
    """The learner's niceness: where cores are short, the ranker and ingest come first."""
    train_session_nice: int = Field(default=10, ge=0, le=19)
    """The same of the learner's session: where the kernel shares cores out among sessions first, niceness counts within
    one only (man 7 sched, autogroup), and each process of `up` has its own. It leaves a learner little of a machine
    that is busy throughout; so `up --world` takes 0 unless it is set."""
    log_retention_seconds: float = Field(default=3600.0, ge=0)
    """How long the SQL event log keeps records that ingest has committed."""

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'steadyrank.db'}"

    @property
    def log_url(self) -> str:
        """The SQLAlchemy URL of the SQL event log: a file of its own on SQLite, else the store's database."""
        if self.store_url.startswith("sqlite"):
            return f"sqlite:///{self.data.absolute() / 'events.db'}"
        return self.store_url

    @property
    def spool_folder(self) -> Path | None:
        """None: there is no spool."""
        if self.spool.lower() == "off":
            return None
        return Path(self.spool) if self.spool else self.data / "spool"

    @property
    def policies_folder(self) -> Path:
        return self.data / "policies"

    @property
    def training_folder(self) -> Path:
        return self.data / "training"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: object) -> Self:
        """Settings from `environment` (default: the process's), then `overrides` that are not None.

        Raises:
            SettingsError: a variable is unknown or its value is wrong.
        """
        given = os.environ if environment is None else environment
        values: dict[str, object] = {
            key.removeprefix(_PREFIX).lower(): value
            for key, value in given.items()
            if key.startswith(_PREFIX) and not key.startswith(_OF_OTHERS)
        }
        values |= {key: value for key, value in overrides.items() if value is not None}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(
                "\n".join(
                    f"{_PREFIX}{str(e['loc'][0]).upper()}: {e['msg']} (found {e['input']!r})" for e in error.errors()
                )
            ) from error


def bound_library_threads(num: int) -> None:
    """Of the libraries below numpy and torch, before they are loaded: they make as many as there are cores, and take
    them all for a large product. What the environment says already stays.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(num))
