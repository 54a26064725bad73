"""What a run is to do."""

from dataclasses import dataclass
from pathlib import Path

from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    settings: Settings
    """With topics and a store of its own."""
    folder: Path
    num_records: int
    """Garbage and good ones."""
    seed: int = 0
    num_producers: int = 2
