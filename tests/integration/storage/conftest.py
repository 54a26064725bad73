from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from storage.database import migrate, open_store


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """Of a store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'steadyrank.db'}"


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """Of a store that is migrated and empty."""
    migrate(store_url)
    engine = open_store(store_url)
    yield engine
    engine.dispose()


@pytest.fixture
def hasty_engine(engine: Engine) -> Iterator[Engine]:
    """The same store, for one who does not wait long for a lock."""
    hasty = open_store(str(engine.url), busy_seconds=0.1)
    yield hasty
    hasty.dispose()
