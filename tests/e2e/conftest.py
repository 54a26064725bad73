"""What runs that start Kafka themselves need on this machine."""

import pytest

from tests import parts


@pytest.fixture(scope="session")
def kafka_at_hand(request: pytest.FixtureRequest) -> None:
    """Kafka can be started here; else the run says loudly that it could not be tested."""
    from loadtest.parts.kafka import find_java, kafka_jars  # noqa: PLC0415 (most runs start faster without)
    from loadtest.parts.server import PartUnavailableError  # noqa: PLC0415 (the same)

    try:
        find_java()
        kafka_jars()
    except PartUnavailableError as error:
        parts._go_without(request.config, error)
