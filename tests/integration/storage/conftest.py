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
    engine = open_store(store_url, busy_seconds=0.2)
    yield engine
    engine.dispose()
