"""The answers of the cold routes, for FastAPI to check and to document."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel


class Upserted(BaseModel):
    upserted: int


class Item(BaseModel):
    item_id: str
    features: dict[str, object]
    updated_at: datetime


class Policy(BaseModel):
    version: str
    state: Literal["champion", "published", "rejected", "pruned"]
    created_at: datetime
    parent: str | None
    metrics: dict[str, float | None]


class Policies(BaseModel):
    """`policies` newest first. While pinned, the learner publishes and does not promote."""

    champion: str | None
    pinned: bool
    policies: list[Policy]


class Champion(BaseModel):
    champion: str | None
    pinned: bool
