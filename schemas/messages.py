"""What travels over HTTP and through the event log (DESIGN §5 and §6).

These are msgspec structs because every request is decoded and every answer encoded on the ranker's event loop, where
they cost a fifth of the pydantic models of the same shape (docs/decisions/0002).

Where a field may be null, null means the same as absent.

What comes from JSON has no cycles, so the garbage collector need not look for any in them (`gc=False`).
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

MAX_K = 1_000
MAX_CANDIDATES = 10_000
MAX_ID_LENGTH = 256
MAX_FEEDBACK_EVENTS = 1_000
MAX_ITEMS_PER_PUT = 10_000
MAX_ABS_VALUE = 1e6
MAX_FUTURE_SECONDS = 300.0
SCHEMA_VERSION = 1

Mode = Literal["learned", "explore", "fallback", "control"]
"""How a decision was made: `explore` when any part of it was drawn from the uniform (or the wide) part."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
"""1–256 characters; that none is a control character is checked apart (`has_control_character`)."""

Features = dict[str, Any]
"""Values by feature name as they came; `policies.features` checks them against the loop file."""


class Candidate(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """An item eligible for this request, with features that only this request knows."""

    item_id: Id
    features: Features = msgspec.field(default_factory=dict)


class RecommendRequest(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """`POST /recommend`. `candidates` null is the whole catalogue; `k` null is the loop's slate size."""

    user_id: Id | None = None
    session_id: Id | None = None
    context: Features | None = None
    candidates: Annotated[list[Id | Candidate], msgspec.Meta(min_length=1, max_length=MAX_CANDIDATES)] | None = None
    exclude: Annotated[list[Id], msgspec.Meta(max_length=MAX_CANDIDATES)] | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_K)] | None = None
    decision_id: Id | None = None


class RankedItem(msgspec.Struct, gc=False):
    """One item of the answer; `propensity` is null for the action kind `weights`."""

    item_id: str
    score: float
    propensity: float | None = None


class ActingPolicy(msgspec.Struct, gc=False):
    version: str
    age_seconds: float


class Recommendation(msgspec.Struct, gc=False, omit_defaults=True):
    """The answer of `POST /recommend`; `items` in the order drawn, which is the order to show."""

    decision_id: str
    items: list[RankedItem]
    policy: ActingPolicy | None
    mode: Mode
    action: list[float] | None = None
    log_density: float | None = None
    reason: str | None = None


class FeedbackEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """One event of `POST /feedback` and of the topic `feedback`.

    The service fills `event_id`, `value` and `occurred_at` before it logs an event; producers that write to the log
    themselves may leave them out, and ingest fills them from the record.
    """

    decision_id: Id
    kind: Id
    event_id: Id | None = None
    item_id: Id | None = None
    value: Annotated[float, msgspec.Meta(ge=-MAX_ABS_VALUE, le=MAX_ABS_VALUE)] | None = None
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    schema_version: Literal[1] = 1


class FeedbackAccepted(msgspec.Struct, gc=False, omit_defaults=True):
    """The answer of `POST /feedback`; `event_ids` are those the server made, in the order of the events, if any."""

    accepted: int
    spooled: int
    event_ids: list[str] | None = None


class LoggedItem(msgspec.Struct, gc=False, omit_defaults=True):
    """A slate item as it was scored: the features are those of the catalogue and the request together."""

    item_id: str
    position: int
    score: float
    propensity: float | None = None
    features: Features = msgspec.field(default_factory=dict)


class Decision(msgspec.Struct, gc=False, omit_defaults=True):
    """One logged act of ranking, an element of the topic `decisions`: all that learning needs (DESIGN §6)."""

    decision_id: Id
    decided_at: Annotated[datetime, msgspec.Meta(tz=True)]
    mode: Mode
    loop_hash: str
    seed: int
    items: list[LoggedItem]
    context: Features = msgspec.field(default_factory=dict)
    user_id: Id | None = None
    session_id: Id | None = None
    candidates: list[Id | Candidate] | None = None
    exclude: list[Id] | None = None
    shortlist: Annotated[list[Id], msgspec.Meta(max_length=256)] | None = None
    action: list[float] | None = None
    log_density: float | None = None
    policy_version: str | None = None
    exploration: dict[str, Any] = msgspec.field(default_factory=dict)
    schema_version: Literal[1] = 1


def has_control_character(text: str) -> bool:
    """Whether an id holds an ASCII or C1 control character (category Cc), which ids may not."""
    return not text.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
