"""The store, as the ranker uses it: it may be away at any time, also at the start."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from storage.catalogue import Catalogue
from storage.database import SchemaTooNewError, StoreUnavailableError, migrate, open_store
from storage.registry import PolicyRegistry
from storage.story import DecisionStory, RewardTotal, decision_story, first_totals, reward_totals

BUSY_SECONDS = 2.0
"""How long a call waits for a lock: as long as a person waits for an answer, and Ctrl-C for the last thread."""

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """Blocking calls, for threads. All raise StoreUnavailableError when the database is locked or away."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._engine = open_store(url, BUSY_SECONDS)
        self._has_schema = False
        self.catalogue = Catalogue(self._engine, clock)
        self.registry = PolicyRegistry(self._engine, clock)

    def call(self, what: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`what(…)`, after the schema was brought up to date once."""
        self._make_schema()
        return what(*args, **kwargs)

    def story(self, decision_id: str) -> DecisionStory | None:
        return self.call(decision_story, self._engine, decision_id)

    def reward_totals(self, since: float, until: float) -> list[RewardTotal]:
        return self.call(reward_totals, self._engine, since, until)

    def first_of_fallback(self, seconds: float) -> list[RewardTotal]:
        """What the uniform fallback got at first: what there was before anything was learned."""
        return self.call(first_totals, self._engine, "fallback", seconds)

    def close(self) -> None:
        self._engine.dispose()

    def _make_schema(self) -> None:
        if self._has_schema:
            return
        try:
            migrate(self._url, BUSY_SECONDS)
        except SchemaTooNewError as error:
            raise StoreUnavailableError(str(error)) from error
        self._has_schema = True
