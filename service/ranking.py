"""From a request to a decision. Pure: what serves is read once, and all chance comes from the decision's id."""

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from policies.features import Encoded, FeatureError, ItemEncoder, StateEncoder
from policies.policy import SlatePolicy
from policies.seeds import seed_of
from schemas.loop_file import Loop
from schemas.messages import (
    ActingPolicy,
    Decision,
    Features,
    LoggedItem,
    Mode,
    RankedItem,
    Recommendation,
    RecommendRequest,
)
from schemas.sections import GaussianExploration, SlateAction, WeightsAction
from service.catalogue import ItemTable, Policy
from service.choosing import (
    Choice,
    Question,
    choose_slate_by_chance,
    choose_slates,
    choose_weights,
    choose_weights_by_chance,
)
from service.pool import Pool, pool_of
from service.problems import ProblemError, check_id, refused

DEFAULT_NUM_ITEMS = 10
"""Items answered where neither the request nor the loop file says how many, as for the action kind `weights`."""

_SCORES_AT_ONCE = 24_000
"""Of requests that are ranked together: what is made of more does not fit into the cache of a core, and takes half as
long again."""
_UNIFORM: dict[str, Any] = {"kind": "uniform"}
_CONTROL_SALT = zlib.crc32(b"control")  # so that the share does not depend on how ids fall into buckets


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves now. One reference is swapped, so that no answer mixes two policies."""

    policy: Policy | None
    table: ItemTable
    """The catalogue as the policy sees it."""
    reason: str
    """Why no policy serves, where none does."""


class Ranked(msgspec.Struct, frozen=True, eq=False):
    """An answer, and what there is to log and to count of it."""

    answer: Recommendation
    decision: Decision | None
    """None: there was nothing to choose from, so nothing was decided."""
    policy: Policy | None
    """The one that acted."""
    num_clipped: int
    num_unknown: int


class _Asked(msgspec.Struct, frozen=True, eq=False):
    """A request that keeps the rules, and what serves it."""

    request: RecommendRequest
    decision_id: str
    serving: Serving
    question: Question


class _Act(msgspec.Struct, frozen=True, eq=False):
    """A choice, and how it came about."""

    choice: Choice
    mode: Mode
    policy: Policy | None = None
    reason: str | None = None


class Ranker:
    """Answers by the policy that serves, and by chance for control users and where no policy does."""

    def __init__(
        self, loop: Loop, serving: Callable[[], Serving], clock: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self._loop = loop
        self._serving = serving
        self._clock = clock
        self._new_id = new_id
        self._loop_hash = loop.hash
        self._states = StateEncoder(loop)
        self._items = ItemEncoder(loop)
        self._is_slate = isinstance(loop.action, SlateAction)
        self._num_items = loop.action.size if isinstance(loop.action, SlateAction) else DEFAULT_NUM_ITEMS
        self._exploration = loop.exploration.model_dump(mode="json", exclude={"control"})
        self._is_for_sets = loop.network.interaction != "dot"

    def rank(self, request: RecommendRequest) -> Ranked:
        """The decision for this request.

        Raises:
            ProblemError: 422, it breaks a rule.
        """
        [ranked] = self.rank_all([request])
        if isinstance(ranked, ProblemError):
            raise ranked
        return ranked

    def rank_all(self, requests: Sequence[RecommendRequest]) -> list[Ranked | ProblemError]:
        """The decision for each, or the rule that it breaks. On the event loop, and in one go: the item table that a
        request is ranked by changes between two turns.
        """
        asked = [self._ask(request) for request in requests]
        acts = iter(self._acts([each for each in asked if not isinstance(each, ProblemError)]))
        return [each if isinstance(each, ProblemError) else self._ranked(each, next(acts)) for each in asked]

    def _ask(self, request: RecommendRequest) -> _Asked | ProblemError:
        try:
            _check_ids(request)
            serving = self._serving()
            state = self._encoded(request.context)
            decision_id = request.decision_id or self._new_id()
            is_for_sets = self._is_for_sets and isinstance(serving.policy, SlatePolicy)
            pool = pool_of(request, serving.table, self._items, decision_id, is_for_sets=is_for_sets)
        except ProblemError as problem:
            return problem
        question = Question(state, pool, request.k or self._num_items, seed_of(decision_id))
        return _Asked(request, decision_id, serving, question)

    def _acts(self, asked: Sequence[_Asked]) -> list[_Act]:
        """What is chosen for each. Requests that are alike go through the network and the draw together: arithmetic on
        some hundred numbers costs as much for sixteen requests as for one.
        """
        acts: dict[int, _Act] = {}
        alike: dict[tuple[int, int, int, bool], list[int]] = defaultdict(list)
        for i, each in enumerate(asked):
            if self._is_control(each.request.user_id or each.request.session_id or each.decision_id):
                acts[i] = _Act(self._by_chance(each.question), "control")
            else:
                pool = each.question.pool
                alike[id(each.serving.policy), len(pool), each.question.k, pool.rows is None].append(i)
        for (_, num_items, _, _), places in alike.items():
            size = max(_SCORES_AT_ONCE // max(num_items, 1), 1)
            for start in range(0, len(places), size):
                some = places[start : start + size]
                acts |= zip(some, self._act([asked[i] for i in some]), strict=True)
        return [acts[i] for i in range(len(asked))]

    def _encoded(self, context: Features | None) -> Encoded:
        try:
            return self._states.encode(context)
        except FeatureError as error:
            raise refused(("body", "context", *error.loc), error.message, error.given) from error

    def _is_control(self, who: str) -> bool:
        share = self._loop.exploration.control
        return share > 0 and zlib.crc32(who.encode(), _CONTROL_SALT) < share * 2**32

    def _act(self, asked: Sequence[_Asked]) -> list[_Act]:
        """Of requests of one policy."""
        policy, reason = asked[0].serving.policy, asked[0].serving.reason
        questions = [each.question for each in asked]
        if policy is None or (self._is_slate and not len(questions[0].pool)):
            return [_Act(self._by_chance(each), "fallback", reason=reason) for each in questions]
        try:
            choices = self._by_policy(policy, questions)
        except ValueError as error:  # numbers that grew beyond all bounds
            if len(asked) > 1:  # in some state: the others are not to suffer
                return [act for each in asked for act in self._act([each])]
            reason = f"the policy {policy.version} cannot answer this: {error}"
            return [_Act(self._by_chance(questions[0]), "fallback", reason=reason)]
        return [_Act(choice, "explore" if choice.explored else "learned", policy) for choice in choices]

    def _by_policy(self, policy: Policy, questions: Sequence[Question]) -> list[Choice]:
        exploration = self._loop.exploration
        if isinstance(policy, SlatePolicy):
            assert not isinstance(exploration, GaussianExploration)  # the loop file makes sure
            return choose_slates(policy, questions, exploration)
        assert isinstance(exploration, GaussianExploration)  # as above
        return [choose_weights(policy, each, exploration) for each in questions]

    def _by_chance(self, question: Question) -> Choice:
        action = self._loop.action
        if isinstance(action, WeightsAction):
            return choose_weights_by_chance(question, action.dim)
        return choose_slate_by_chance(question)

    def _ranked(self, asked: _Asked, act: _Act) -> Ranked:
        """The answer, and the decision to log."""
        now, question = self._clock(), asked.question
        items = _logged_items(question.pool, act.choice)
        answer = _answer(asked.decision_id, items, act, now)
        decision = None
        if items or act.choice.action is not None:
            decision = self._decision(asked.request, answer, items, question.seed, now)
            if act.choice.shortlist is not None:
                decision.shortlist = [question.pool.table.ids[row] for row in act.choice.shortlist]
        else:
            answer.reason = "the catalogue is empty: PUT /items, or send candidates"
        return Ranked(
            answer,
            decision,
            act.policy,
            question.state.num_clipped + question.pool.num_clipped(),
            question.state.num_unknown + question.pool.num_unknown(),
        )

    def _decision(
        self, request: RecommendRequest, answer: Recommendation, items: list[LoggedItem], seed: int, now: float
    ) -> Decision:
        return Decision(
            decision_id=answer.decision_id,
            decided_at=datetime.fromtimestamp(now, UTC),
            mode=answer.mode,
            loop_hash=self._loop_hash,
            seed=seed,
            items=items,
            context=_present(request.context),
            user_id=request.user_id,
            session_id=request.session_id,
            candidates=request.candidates,
            exclude=request.exclude,
            action=answer.action,
            log_density=answer.log_density,
            policy_version=None if answer.policy is None else answer.policy.version,
            exploration=_UNIFORM if answer.policy is None else self._exploration,
        )


def _answer(decision_id: str, items: list[LoggedItem], act: _Act, now: float) -> Recommendation:
    action, policy = act.choice.action, act.policy
    return Recommendation(
        decision_id=decision_id,
        items=[RankedItem(item.item_id, item.score, item.propensity) for item in items],
        policy=None if policy is None else ActingPolicy(policy.version, max(now - policy.created_at, 0.0)),
        mode=act.mode,
        action=None if action is None else action.action,
        log_density=None if action is None else action.log_density,
        reason=act.reason,
    )


def _check_ids(request: RecommendRequest) -> None:
    """Their length was checked when they were decoded."""
    ids = (request.user_id, request.session_id, request.decision_id)
    for name, text in zip(("user_id", "session_id", "decision_id"), ids, strict=True):
        if text is not None and not text.isprintable():
            check_id(text, ("body", name))
    for i, text in enumerate(request.exclude or ()):
        if not text.isprintable():
            check_id(text, ("body", "exclude", i))


def _logged_items(pool: Pool, choice: Choice) -> list[LoggedItem]:
    chosen = zip(pool.items(choice.indices), choice.scores, choice.propensities, strict=True)
    return [
        LoggedItem(item_id, position, score, propensity, features)
        for position, ((item_id, features), score, propensity) in enumerate(chosen)
    ]


def _present(features: Features | None) -> Features:
    """Null is the same as absent."""
    if not features:
        return {}
    if None not in features.values():
        return features
    return {name: value for name, value in features.items() if value is not None}
