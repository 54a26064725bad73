"""What people and their programs ask now and then, on FastAPI. Calls that block go to its thread pool."""

from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from policies.features import FeatureError, ItemEncoder
from schemas.messages import MAX_ITEMS_PER_PUT, Candidate, Features
from service import answers
from service.asgi import read_json_body
from service.console_data import console_data, policies_answer, read_stored
from service.openapi import PROBLEM_RESPONSE, complete, json_body
from service.parts import Parts
from service.problems import (
    MEDIA_TYPE,
    Mistake,
    ProblemError,
    broken_rules,
    check_id,
    decode,
    problem_body,
    unavailable,
)
from service.story import moment, pending_story, stored_story
from storage.database import StoreUnavailableError
from storage.registry import NoPredecessorError, NotPromotableError, UnknownPolicyError

API_VERSION = "1"
MAX_ITEMS_BYTES = 16 << 20
MAX_WINDOW_SECONDS = 86_400

_CONSOLE = Path(__file__).parent / "console"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Routes(FastAPI):
    """FastAPI with the routes on bare ASGI in its OpenAPI document."""

    has_keys = False

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), has_keys=self.has_keys)
        return self.openapi_schema


def make_routes(parts: Parts) -> Routes:
    routes = Routes(
        title=f"steadyrank: {parts.loop.name}",
        version=API_VERSION,
        summary="An online recommender that learns from its own clicks",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        responses={"4XX": PROBLEM_RESPONSE},
    )
    routes.has_keys = bool(parts.settings.api_keys)
    for router in (_items(parts), _policies(parts), _decisions(parts), _console(parts)):
        routes.include_router(router)
    _refuse_with_problems(routes, parts)
    return routes


def _items(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["items"])
    encoder = ItemEncoder(parts.loop)
    decoder = msgspec.json.Decoder(Annotated[list[Candidate], msgspec.Meta(max_length=MAX_ITEMS_PER_PUT)])
    catalogue, call = parts.store.catalogue, parts.store.call
    body = json_body("Candidate", [{"item_id": "i1", "features": {"price": 3.5}}], is_list=True)

    def upsert(content: bytes) -> int:
        items = _checked_items(decode(decoder, content), encoder)
        call(catalogue.upsert, items)
        return len(items)

    @router.put("/items", response_model=answers.Upserted, openapi_extra={"requestBody": body})
    async def put_items(request: Request) -> dict[str, int]:
        """Put items in place of what was there; they are ranked within 2 s."""
        content = await read_json_body(request.scope, request.receive, MAX_ITEMS_BYTES)
        num = await run_in_threadpool(upsert, content)
        parts.catalogue_poller.poke()
        return {"upserted": num}

    @router.get("/items/{item_id:path}", response_model=answers.Item)
    def get_item(item_id: str) -> dict[str, Any]:
        check_id(item_id, ("path", "item_id"))
        item = call(catalogue.get, item_id)
        if item is None:
            raise ProblemError(404, f"no item {item_id!r}")
        return {"item_id": item.item_id, "features": item.features, "updated_at": moment(item.updated_at)}

    @router.delete("/items/{item_id:path}", status_code=204)
    async def delete_item(item_id: str) -> None:
        """Harmless to repeat."""
        check_id(item_id, ("path", "item_id"))
        await run_in_threadpool(call, catalogue.delete, item_id)
        parts.catalogue_poller.poke()

    return router


def _checked_items(items: list[Candidate], encoder: ItemEncoder) -> list[tuple[str, Features]]:
    mistakes = []
    for i, item in enumerate(items):
        check_id(item.item_id, ("body", i, "item_id"))
        try:
            encoder.encode(item.item_id, item.features)
        except FeatureError as error:
            mistakes.append(Mistake(("body", i, "features", *error.loc), error.message, error.given))
    if mistakes:
        raise broken_rules(mistakes[:100])
    return [(item.item_id, item.features) for item in items]


def _policies(parts: Parts) -> APIRouter:
    router = APIRouter(prefix="/policies", tags=["policies"])
    registry, call = parts.store.registry, parts.store.call

    async def change(what: Any, *args: object) -> dict[str, Any]:
        try:
            await run_in_threadpool(call, what, *args)
        except UnknownPolicyError as error:
            raise ProblemError(404, str(error)) from error
        except (NotPromotableError, NoPredecessorError) as error:
            raise ProblemError(409, str(error)) from error
        parts.policy_poller.poke()
        champion = await run_in_threadpool(call, registry.champion)
        return {"champion": champion and champion.version, "pinned": champion is not None and champion.pinned}

    @router.get("", response_model=answers.Policies)
    def list_policies() -> dict[str, Any]:
        return policies_answer(call(registry.champion), call(registry.listing))

    @router.post("/rollback", response_model=answers.Champion)
    async def roll_back() -> dict[str, Any]:
        """Make the champion before this one champion again, pinned."""
        return await change(registry.rollback)

    @router.post("/unpin", response_model=answers.Champion)
    async def unpin() -> dict[str, Any]:
        """Let the learner promote again."""
        return await change(registry.unpin)

    @router.post("/{version}/promote", response_model=answers.Champion)
    async def promote(version: str) -> dict[str, Any]:
        """Make a version the champion, pinned: the learner goes on publishing and does not promote until unpinned."""
        return await change(registry.promote, version, True)

    return router


def _decisions(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["decisions"])

    @router.get("/decisions/{decision_id:path}")
    async def get_decision(decision_id: str) -> Response:
        """The whole story of one decision: what was shown, what came of it, and what was learned from it."""
        check_id(decision_id, ("path", "decision_id"))
        answer = parts.recommender.remembered(decision_id)
        try:
            story = await run_in_threadpool(parts.store.story, decision_id)
        except StoreUnavailableError:
            if answer is None:
                raise
            story = None
        if story is not None:
            return _json(stored_story(story))
        if answer is None:
            raise ProblemError(404, f"no decision {decision_id!r}")
        return _json(pending_story(answer))

    return router


def _console(parts: Parts) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/console/data")
    async def data(seconds: Annotated[float, Query(ge=1, le=MAX_WINDOW_SECONDS)] = 600) -> Response:
        since = parts.clock() - seconds
        stored = await run_in_threadpool(read_stored, parts, since)
        return _json(console_data(parts, stored, since))

    @router.get("/console")
    def page() -> Response:
        return _file("index.html")

    @router.get("/console/{name}")
    def asset(name: str) -> Response:
        return _file(name)

    return router


def _file(name: str) -> Response:
    path = _CONSOLE / name
    if path.suffix not in _MEDIA_TYPES or path.parent != _CONSOLE or not path.is_file():
        raise ProblemError(404, f"the console has no {name!r}")
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers={"Cache-Control": "no-store"})


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _refuse_with_problems(routes: Routes, parts: Parts) -> None:
    def answer(problem: ProblemError) -> Response:
        parts.metrics.refused.labels(problem.status).inc()
        return Response(problem_body(problem), problem.status, problem.headers, MEDIA_TYPE)

    @routes.exception_handler(ProblemError)
    async def ours(_: Request, error: ProblemError) -> Response:
        return answer(error)

    @routes.exception_handler(HTTPException)
    async def starlettes(_: Request, error: HTTPException) -> Response:
        return answer(ProblemError(error.status_code, error.detail, headers=error.headers))

    @routes.exception_handler(RequestValidationError)
    async def fastapis(_: Request, error: RequestValidationError) -> Response:
        return answer(broken_rules([Mistake(tuple(e["loc"]), e["msg"], e.get("input")) for e in error.errors()]))

    @routes.exception_handler(StoreUnavailableError)
    async def away(_: Request, error: StoreUnavailableError) -> Response:
        return answer(unavailable(str(error)))

    @routes.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return answer(ProblemError(500, "the ranker failed; its log says why"))
