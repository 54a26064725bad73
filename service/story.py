"""The story of one decision, for `GET /decisions/{decision_id}`."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.messages import Recommendation
from storage.open_decisions import StoredEvent
from storage.story import DecisionStory


def moment(seconds: float) -> str:
    """ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def stored_story(story: DecisionStory) -> dict[str, Any]:
    """The decision as it was logged, and all that came of it. Lists of rewards and estimates go by position."""
    training = story.training
    is_trained = training is not None
    state = "trained" if is_trained else "waiting" if story.final_at is None else "joined"
    return {
        **msgspec.to_builtins(story.decision),
        "state": state,
        "received_at": moment(story.received_at),
        "events": [_event(event) for event in story.events],
        "rewards": story.rewards,
        "terminated": story.terminated,
        "final_at": _moment_or_null(story.final_at),
        "corrected_at": _moment_or_null(story.corrected_at),
        "training": None if training is None else msgspec.to_builtins(training),
    }


def pending_story(answer: bytes) -> dict[str, Any]:
    """What this ranker answered, and the store does not know yet."""
    given = msgspec.json.decode(answer, type=Recommendation)
    return {
        **msgspec.to_builtins(given),
        "policy_version": None if given.policy is None else given.policy.version,
        "state": "pending",
        "events": [],
        "rewards": None,
        "terminated": False,
        "final_at": None,
        "corrected_at": None,
        "training": None,
    }


def _event(event: StoredEvent) -> dict[str, Any]:
    times = {"occurred_at": moment(event.occurred_at), "received_at": moment(event.received_at)}
    return event._asdict() | times


def _moment_or_null(seconds: float | None) -> str | None:
    return None if seconds is None else moment(seconds)
