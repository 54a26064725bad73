"""What the settings say reaches Kafka's clients."""

from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer  # type: ignore[import-untyped]  # it brings no types

from schemas.settings import Settings
from storage.kafka_client import client_options, topic_name

SECURED = Settings(
    kafka="one:9092, two:9093",
    kafka_topic_prefix="shop-",
    kafka_security_protocol="SASL_SSL",
    kafka_ssl_cafile=Path("/keys/ca.pem"),
    kafka_ssl_certfile=Path("/keys/cert.pem"),
    kafka_ssl_keyfile=Path("/keys/key.pem"),
    kafka_ssl_password="of the key",
    kafka_sasl_mechanism="SCRAM-SHA-512",
    kafka_sasl_username="ranker",
    kafka_sasl_password="secret",
)


def test_tls_and_sasl_are_passed_on() -> None:
    options = client_options(SECURED)
    assert options["bootstrap_servers"] == ["one:9092", "two:9093"]
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_cafile"] == "/keys/ca.pem"
    assert options["ssl_certfile"] == "/keys/cert.pem"
    assert options["ssl_keyfile"] == "/keys/key.pem"
    assert options["ssl_password"] == "of the key"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert options["sasl_plain_username"] == "ranker"
    assert options["sasl_plain_password"] == "secret"


def test_without_security_settings_the_connection_is_plain() -> None:
    options = client_options(Settings(kafka="localhost:9092"))
    assert options["security_protocol"] == "PLAINTEXT"
    assert options["ssl_cafile"] is options["sasl_mechanism"] is options["sasl_plain_password"] is None


def test_each_client_knows_every_option() -> None:
    for client in (KafkaProducer, KafkaConsumer, KafkaAdminClient):
        assert client_options(SECURED).keys() <= client.DEFAULT_CONFIG.keys()


def test_topics_have_the_prefix() -> None:
    assert topic_name(SECURED, "feedback") == "shop-feedback"
