"""The topics of the Kafka event log: made where they lack, left alone where they are (DESIGN §6)."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient  # type: ignore[import-untyped]  # it brings no types
from kafka.admin import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]  # the same
from kafka.errors import (  # type: ignore[import-untyped]  # the same
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from schemas.settings import Settings
from storage.event_log import LogUnavailableError
from storage.kafka_client import connect, topic_name

MAX_RECORD_BYTES = 8 << 20
DEAD_LETTERS = "dead-letters"
MAX_DEAD_LETTER_BYTES = 9 << 20  # the longest record with its headers
_WAIT_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Topic:
    num_partitions: int
    max_bytes: int


def make_topics(settings: Settings) -> dict[str, int]:
    """Makes those that lack; returns how many bytes a batch of each may have, by the topic's name on the broker.

    Two processes may do so at once. Blocks for a few seconds at most.

    Raises:
        LogUnavailableError: no broker answers, or some lack and cannot be made.
    """
    wanted = {
        topic_name(settings, "decisions"): _Topic(settings.kafka_partitions, MAX_RECORD_BYTES),
        topic_name(settings, "feedback"): _Topic(settings.kafka_partitions, MAX_RECORD_BYTES),
        topic_name(settings, DEAD_LETTERS): _Topic(1, MAX_DEAD_LETTER_BYTES),
    }
    connected = connect(KafkaAdminClient, settings)
    try:
        missing = _missing(connected.client, wanted)
        if missing:
            _make(connected.client, {name: wanted[name] for name in missing}, settings.kafka_replication)
        return {
            name: _max_bytes(name, wanted[name], found) for name, found in _configs(connected.client, wanted).items()
        }
    except KafkaError as error:
        raise LogUnavailableError(f"Kafka's topics could not be looked up: {error}") from error
    finally:
        connected.client.close()


def _missing(admin: Any, names: Collection[str]) -> list[str]:
    errors = {answer["name"]: for_code(answer["error_code"]) for answer in admin.describe_topics(list(names))}
    for name, error in errors.items():
        if error is not NoError and not error.retriable:
            raise LogUnavailableError(f"Kafka does not give us the topic {name!r}: {error.__name__}")
    return [name for name, error in errors.items() if error is UnknownTopicOrPartitionError]


def _make(admin: Any, topics: Mapping[str, _Topic], replication: int) -> None:
    asked = {
        name: {
            "num_partitions": topic.num_partitions,
            "replication_factor": replication,
            "configs": {
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(topic.max_bytes),
                # So that ingest needs no codec of whatever a producer elsewhere compresses with.
                "compression.type": "uncompressed",
            },
        }
        for name, topic in topics.items()
    }
    for answer in admin.create_topics(asked, raise_errors=False)["topics"]:
        error = for_code(answer["error_code"])
        if error is NoError:
            _log.info("event log: made the topic %s", answer["name"])
        elif error is not TopicAlreadyExistsError:  # else another process was quicker
            said = answer.get("error_message") or error.__name__
            raise LogUnavailableError(f"Kafka has no topic {answer['name']!r}, and it cannot be made: {said}")
    admin.wait_for_topics(list(topics), timeout_ms=1000 * _WAIT_SECONDS)


def _configs(admin: Any, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Of each topic; empty where we may not know."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: config["value"] for key, config in found[name].items()} for name in names}


def _max_bytes(name: str, wanted: _Topic, found: Mapping[str, Any]) -> int:
    if found.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        _log.warning(
            "event log: the topic %s has message.timestamp.type=%s: rewards may be final too early, or late. Set"
            " message.timestamp.type=LogAppendTime",
            name,
            found["message.timestamp.type"],
        )
    if found.get("compression.type", "uncompressed") != "uncompressed":
        _log.warning(
            "event log: the topic %s keeps records as producers compress them, and ingest has no codec but gzip's."
            " Set compression.type=uncompressed",
            name,
        )
    max_bytes = int(found.get("max.message.bytes", wanted.max_bytes))
    if max_bytes < wanted.max_bytes:
        _log.warning(
            "event log: the topic %s takes records of %d bytes; larger ones will be refused. Set max.message.bytes=%d",
            name,
            max_bytes,
            wanted.max_bytes,
        )
    return max_bytes
