"""Who may ask, and what those hear who get no answer."""

import hmac
import logging
from collections.abc import Iterable

from schemas.settings import Settings
from service.asgi import Header, Reply, problem_reply
from service.metrics import ServiceMetrics
from service.problems import ProblemError, unavailable

# Without a key: probes, and pages that are the same for everyone, which a browser opens before it can send one.
_OPEN_PATHS = frozenset(("/livez", "/readyz", "/docs", "/openapi.json", "/console"))
_OPEN_PREFIX = "/console/"
_DATA_PATH = "/console/data"
# Made once: what has no room must cost as little as it can.
_NO_ROOM = problem_reply(unavailable("more requests have come than can be answered soon; try again"))

_log = logging.getLogger(__name__)


class Edge:
    """What all routes have in common."""

    def __init__(self, settings: Settings, metrics: ServiceMetrics) -> None:
        self._keys = [key.strip().encode() for key in settings.api_keys.split(",") if key.strip()]
        self._metrics = metrics
        self._unavailable = metrics.refused.labels(503)

    def check_key(self, path: str, headers: Iterable[Header]) -> None:
        """Raises `ProblemError` 401: the path needs a key, and there is none, or another one."""
        if not self._keys or path in _OPEN_PATHS or (path.startswith(_OPEN_PREFIX) and path != _DATA_PATH):
            return
        given = next((value for name, value in headers if name == b"x-api-key"), b"")
        if sum(hmac.compare_digest(given, key) for key in self._keys) == 0:  # every key is compared, in the same time
            raise ProblemError(401, "send a key of this ranker as X-API-Key", headers={"WWW-Authenticate": "X-API-Key"})

    def no_room(self) -> Reply:
        self._unavailable.inc()
        return _NO_ROOM

    def reply_to(self, error: Exception, request: str) -> Reply:
        """What whoever sent `request` hears of a problem, or of an error that nobody foresaw."""
        if isinstance(error, ProblemError):
            self._metrics.refused.labels(error.status).inc()
            return problem_reply(error)
        _log.error("%s failed", request, exc_info=error)
        self._metrics.errors.labels("request").inc()
        return problem_reply(ProblemError(500, "the ranker failed; its log says why"))
