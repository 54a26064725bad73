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


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """`fallback` says why the uniform policy answers, where it does; `trouble` what ails store or event log."""

    status: Literal["ready"] = "ready"
    policy: str | None
    fallback: str | None
    trouble: str | None
