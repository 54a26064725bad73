"""How the Kafka event log connects: the options that producer, consumer and admin share, and their names of topics."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socket import socket
from typing import Any, Generic, TypeVar

from kafka.errors import KafkaError, KafkaTimeoutError  # type: ignore[import-untyped]  # it brings no types
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]  # the same
from kafka.net.inet import KafkaNetSocket  # type: ignore[import-untyped]  # the same

from schemas.settings import Settings
from storage.event_log import LogUnavailableError

DISMISS_SECONDS = 1.0
_ClientT = TypeVar("_ClientT")

_BOOTSTRAP_SECONDS = 3.0
_REQUEST_SECONDS = 5.0
_MAX_RECONNECT_SECONDS = 1.0
_MIN_DELAY_MS = 50.0
_METADATA_SECONDS = 30.0  # so that partitions which were added are noticed


class _Network(KafkaNetClient):  # type: ignore[misc]  # it brings no types
    """Where a broker that is frozen has accepted, the producer's thread would spin: what is told it here as seconds it
    takes for milliseconds, and 0 for no time at all.
    """

    def connection_delay(self, node_id: Any) -> float:
        return max(1000 * float(super().connection_delay(node_id)), _MIN_DELAY_MS)


def client_options(settings: Settings) -> dict[str, Any]:
    """What a producer, a consumer and an admin take alike."""
    return {
        "bootstrap_servers": [server.strip() for server in settings.kafka.split(",")],
        "client_id": "steadyrank",
        "security_protocol": settings.kafka_security_protocol,
        "ssl_cafile": _text(settings.kafka_ssl_cafile),
        "ssl_certfile": _text(settings.kafka_ssl_certfile),
        "ssl_keyfile": _text(settings.kafka_ssl_keyfile),
        "ssl_password": settings.kafka_ssl_password,
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password,
        "bootstrap_timeout_ms": int(1000 * _BOOTSTRAP_SECONDS),
        "request_timeout_ms": int(1000 * _REQUEST_SECONDS),
        "reconnect_backoff_max_ms": int(1000 * _MAX_RECONNECT_SECONDS),
        "metadata_max_age_ms": int(1000 * _METADATA_SECONDS),
        "proxy_url": f"{_Socket.SCHEMES[0]}://",
    }


def topic_name(settings: Settings, topic: str) -> str:
    return settings.kafka_topic_prefix + topic


@dataclass(frozen=True, slots=True)
class Connected(Generic[_ClientT]):
    """A producer, consumer or admin, and what carries its connections: that must be closed, whatever became of it."""

    client: _ClientT
    network: Any


def connect(kind: Callable[..., _ClientT], settings: Settings, **options: object) -> Connected[_ClientT]:
    """Blocks for a few seconds at most.

    Raises:
        LogUnavailableError: no broker answers, or it does not let us in.
    """
    networks: list[Any] = []

    def network(**configs: object) -> Any:
        networks.append(_Network(**configs))
        return networks[-1]

    try:
        return Connected(kind(**client_options(settings), **options, kafka_client=network), networks[-1])
    except (KafkaError, OSError, ValueError) as error:
        for one in networks:  # a constructor that failed leaves its sockets open, and its thread running
            one.close()
        raise LogUnavailableError(f"Kafka at {settings.kafka} cannot be reached: {error}") from error


def dismiss(producer: Any) -> None:
    """Ends a producer and fails what it still holds: its own `close` ends nothing while records are on their way."""
    sender = producer._sender  # noqa: SLF001 see above
    sender.force_close()
    sender.join(DISMISS_SECONDS)
    with suppress(KafkaTimeoutError):  # its thread has not ended yet, but will
        producer.close(timeout=0)


class _Socket(KafkaNetSocket):  # type: ignore[misc]  # no types
    """No proxy at all. kafka-python leaves the socket of a connection that was refused to the garbage collector, which
    may come after the last free file descriptor has gone.
    """

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: socket, sockaddr: Any, timeout_at: float | None = None) -> socket:
        try:
            await super().sock_connect(net, sock, sockaddr, timeout_at)
        except BaseException:
            sock.close()
            raise
        return sock


def _text(path: object) -> str | None:
    return None if path is None else str(path)
