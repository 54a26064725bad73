"""The OpenAPI document: FastAPI's, and what FastAPI does not see, from msgspec's own schemas."""

from typing import Any

import msgspec

from schemas.messages import Candidate, FeedbackAccepted, FeedbackEvent, Recommendation, RecommendRequest
from service.probes import Alive, Ready
from service.problems import MEDIA_TYPE

_REF = "#/components/schemas/{name}"
_MESSAGES = (RecommendRequest, Recommendation, FeedbackEvent, FeedbackAccepted, Candidate, Alive, Ready)

_PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "RFC 9457",
    "type": "object",
    "required": ["type", "title", "status", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "input"],
                "properties": {
                    "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string"},
                    "input": {},
                },
            },
        },
    },
}

_RECOMMEND_EXAMPLE = {
    "user_id": "u1",
    "session_id": "s1",
    "context": {"page": 3, "age": "25-34", "history": ["i3", "i9"]},
    "candidates": ["i1", {"item_id": "i2", "features": {"price": 3.5}}],
    "exclude": ["i7"],
    "k": 10,
}
_RECOMMENDATION_EXAMPLE = {
    "decision_id": "5f0c1c9ad2a74b3c8e21d0aa-00000017",
    "items": [
        {"item_id": "i2", "score": 0.71, "propensity": 0.62},
        {"item_id": "i1", "score": 0.66, "propensity": 1.0},
    ],
    "policy": {"version": "000042", "age_seconds": 3.1},
    "mode": "learned",
}
_FEEDBACK_EXAMPLE = {
    "event_id": "e1",
    "decision_id": "5f0c1c9ad2a74b3c8e21d0aa-00000017",
    "item_id": "i2",
    "kind": "click",
    "value": 1.0,
    "occurred_at": "2026-11-23T10:00:00Z",
}

_READY_EXAMPLE = {"status": "ready", "policy": "000042", "fallback": None, "trouble": None}

PROBLEM_RESPONSE: dict[str, Any] = {
    "description": "Refused: the problem document names each field that is wrong",
    "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
}


def json_body(name: str, example: object, *, is_list: bool = False, or_list: bool = False) -> dict[str, Any]:
    """The `requestBody` of an operation that takes the message `name`, a list of them, or either."""
    one: dict[str, Any] = {"$ref": _REF.format(name=name)}
    many = {"type": "array", "items": one}
    schema = many if is_list else {"anyOf": [one, many]} if or_list else one
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def complete(document: dict[str, Any], *, has_keys: bool) -> dict[str, Any]:
    """`document` with the routes on bare ASGI, their messages, the problem document, and the key where one is asked."""
    _, components = msgspec.json.schema_components(_MESSAGES, ref_template=_REF)
    document.setdefault("components", {}).setdefault("schemas", {}).update(components | {"Problem": _PROBLEM_SCHEMA})
    if has_keys:
        document["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
        document["security"] = [{"key": []}]
    hot = {"/recommend": {"post": _recommend()}, "/feedback": {"post": _feedback()}}
    document["paths"] = hot | document["paths"] | {path: {"get": operation} for path, operation in _probes().items()}
    return document


def _recommend() -> dict[str, Any]:
    return {
        "tags": ["recommend"],
        "summary": "Rank candidates, or the whole catalogue",
        "operationId": "recommend",
        "requestBody": json_body("RecommendRequest", _RECOMMEND_EXAMPLE),
        "responses": {
            "200": _answer("Recommendation", "Items in the order to show", _RECOMMENDATION_EXAMPLE),
            "4XX": PROBLEM_RESPONSE,
        },
    }


def _feedback() -> dict[str, Any]:
    return {
        "tags": ["feedback"],
        "summary": "Say what users did: one event, or up to 1,000",
        "operationId": "feedback",
        "requestBody": json_body("FeedbackEvent", _FEEDBACK_EXAMPLE, or_list=True),
        "responses": {
            "202": _answer("FeedbackAccepted", "Durable: every event is in the log", {"accepted": 1, "spooled": 0}),
            "4XX": PROBLEM_RESPONSE,
            "503": PROBLEM_RESPONSE | {"description": "The event log is away; nothing was taken, send it again"},
        },
    }


def _probes() -> dict[str, Any]:
    text = {"description": "In Prometheus' format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    ready = _answer("Ready", "By the policy, or by the uniform fallback", _READY_EXAMPLE)
    waiting = PROBLEM_RESPONSE | {"description": "What the store has is being loaded"}
    return {
        "/livez": _probe("livez", "Whether the process answers", _answer("Alive", "It does", {"status": "alive"})),
        "/readyz": _probe("readyz", "Whether what the store has is in use", ready, waiting),
        "/metrics": _probe("metrics", "What the process counts", text),
    }


def _probe(name: str, summary: str, answer: dict[str, Any], unready: dict[str, Any] | None = None) -> dict[str, Any]:
    responses = {"200": answer} | ({} if unready is None else {"503": unready})
    return {"tags": ["operations"], "summary": summary, "operationId": name, "responses": responses}


def _answer(name: str, description: str, example: object) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name=name)}
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}
