"""Rewarded decisions of the store → rows of the buffer. They are encoded when read (DESIGN §4)."""

import math
from collections.abc import Sequence
from typing import TypeVar

from policies.features import FeatureError, StateEncoder
from schemas.loop_file import Loop
from schemas.messages import LoggedItem
from storage.reward_tail import RewardedDecision
from trainer.replay.buffer import EncodedDecision
from trainer.replay.columns import RowShape
from trainer.replay.item_table import PADDING
from trainer.replay.items import Items
from trainer.replay.sessions import session_key

_T = TypeVar("_T")

_MAX_ABS_LOG_DENSITY = 1e6
_ROUNDING = 1e-4
_MIN_PROPENSITY = 1e-30  # float32 ends at 1e-38


class UnusableDecisionError(ValueError):
    """A decision that this loop cannot learn from."""


class DecisionEncoder:
    """Decisions of an older loop file (another hash) are taken as far as they fit; those of this one must fit."""

    def __init__(self, loop: Loop, items: Items, shape: RowShape) -> None:
        self._loop_hash = loop.hash
        self._state_encoder = StateEncoder(loop)
        self._items = items
        self._shape = shape

    def encode(self, decision: RewardedDecision) -> EncodedDecision:
        """Raises `UnusableDecisionError`: it is of another kind of action, or its features do not encode."""
        lenient = decision.loop_hash != self._loop_hash
        try:
            state = self._state_encoder.encode(decision.context, lenient=lenient)
            slate, candidates = self._slate(decision, lenient)
        except FeatureError as error:
            raise UnusableDecisionError(str(error)) from error
        return EncodedDecision(
            decision_id=decision.decision_id,
            session=session_key(decision.session_id, decision.user_id),
            decided_at=decision.decided_at,
            final_at=decision.final_at,
            terminated=is_terminated(decision),
            state_slots=state.slots,
            state_numbers=state.numbers,
            slate=slate,
            rewards=self.rewards(decision.rewards),
            propensities=self._propensities(decision),
            candidates=candidates,
            action=self._action(decision),
            log_density=0.0 if decision.log_density is None else decision.log_density,
        )

    def rewards(self, rewards: Sequence[float | None]) -> list[float]:
        """[K], nan where there is no impression; positions from K on are not learned from."""
        numbers = [math.nan if reward is None else reward for reward in rewards]
        return _padded(numbers, self._shape.num_positions, math.nan)

    def _slate(self, decision: RewardedDecision, lenient: bool) -> tuple[list[int], list[int]]:
        num_positions, num_candidates = self._shape.num_positions, self._shape.num_candidates
        if num_candidates == 0:
            return [PADDING], []
        if not decision.items:
            raise UnusableDecisionError("its slate is empty")
        slate = [
            self._items.row(item.item_id, item.features, lenient=lenient) for item in decision.items[:num_positions]
        ]
        others = self._items.choose_candidates(decision, num_candidates - len(slate))
        candidates = slate + self._items.candidate_rows(others, lenient=lenient)
        return _padded(slate, num_positions, PADDING), _padded(candidates, num_candidates, PADDING)

    def _propensities(self, decision: RewardedDecision) -> list[float]:
        if self._shape.action_dim == 0:
            return _padded([_propensity(item) for item in decision.items], self._shape.num_positions, math.nan)
        log_density = decision.log_density
        return [math.nan if log_density is None or abs(log_density) > _MAX_ABS_LOG_DENSITY else 1.0]

    def _action(self, decision: RewardedDecision) -> list[float]:
        action, dim = decision.action or [], self._shape.action_dim
        if len(action) != dim or any(abs(weight) > 1 + _ROUNDING for weight in action):
            raise UnusableDecisionError(f"its action is not {dim} numbers in [-1, 1]")
        return action


def is_terminated(decision: RewardedDecision) -> bool:
    """Nothing comes after a decision that an `ends` event speaks of, or that belongs to no session (DESIGN §7.5)."""
    return decision.terminated or session_key(decision.session_id, decision.user_id) is None


def _propensity(item: LoggedItem) -> float:
    given = item.propensity
    return math.nan if given is None or not 0 < given <= 1 + _ROUNDING else min(max(given, _MIN_PROPENSITY), 1.0)


def _padded(values: list[_T], num: int, padding: _T) -> list[_T]:
    return values[:num] + [padding] * (num - len(values))
