"""What a policy chooses of a pool, or chance where none acts: a pair of functions an action kind."""

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np

from policies.features import Encoded
from policies.networks import Floats, ItemVectors
from policies.noise import DrawnAction, draw_action, uniform_action
from policies.policy import SlatePolicy, WeightsPolicy
from policies.shortlists import draw_of_all, draw_with_shortlist
from policies.slates import DrawnSlate, draw_slate
from schemas.sections import GaussianExploration, GreedyExploration, SoftmaxExploration
from service.catalogue import number_vectors
from service.indexed import IndexedVectors
from service.pool import Pool

SlateExploration = SoftmaxExploration | GreedyExploration


class Question(msgspec.Struct, frozen=True, eq=False):
    """What a policy is asked. (A struct of msgspec is made in a fifth of the time of a frozen dataclass.)"""

    state: Encoded
    pool: Pool
    k: int
    seed: int


class Choice(msgspec.Struct, frozen=True, eq=False):
    """K items of a pool, in the order to show."""

    indices: Sequence[int]  # [K]
    scores: Sequence[float]  # [K] the policy's own values; 0 where none scored
    propensities: Sequence[float | None]  # [K]; None for weights
    explored: bool
    """Whether any part of it came from the uniform, or the wide, part of the exploration."""
    action: DrawnAction | None = None
    shortlist: Sequence[int] | None = None
    """Positions in the pool of those that were scored, where that is not all."""


def choose_slate(policy: SlatePolicy, question: Question, exploration: SlateExploration) -> Choice:
    """Raises ValueError: the policy's scores are not finite."""
    if question.pool.indexed is not None:
        return _choose_of_shortlist(policy, question, question.pool.indexed, exploration)
    score = partial(policy.scores, policy.state_vector(question.state))
    scores = question.pool.scores(score, policy.item_vectors, items_see_each_other=policy.network.items_see_each_other)
    drawn = draw_slate(scores, question.k, exploration, question.seed)
    return _slate(drawn, scores[drawn.indices].tolist())


def _choose_of_shortlist(
    policy: SlatePolicy, question: Question, items: IndexedVectors, exploration: SlateExploration
) -> Choice:
    state_vector = policy.state_vector(question.state)
    shortlist = items.shortlist(state_vector, np.array(question.pool.gone, np.intp))
    drawn = draw_with_shortlist(shortlist, question.pool.eligible, question.k, exploration, question.seed)
    scores = policy.scores(state_vector, items.take(np.array(drawn.indices, np.intp)))
    slate = _slate(drawn, scores.tolist())
    return msgspec.structs.replace(slate, shortlist=shortlist.rows.tolist())


def choose_slate_by_chance(question: Question, exploration: SlateExploration) -> Choice:
    if question.pool.rows is None:
        drawn = draw_of_all(question.pool.eligible, question.k, question.seed)
    else:
        drawn = draw_slate(None, question.k, exploration, question.seed, len(question.pool))
    return _slate(drawn, [0.0] * len(drawn.indices))


def choose_weights(policy: WeightsPolicy, question: Question, exploration: GaussianExploration) -> Choice:
    """Raises ValueError: the policy's action is not finite."""
    drawn = draw_action(policy.action(question.state), exploration, question.seed)
    return _ranked_by(drawn, question.pool, question.k)


def choose_weights_by_chance(question: Question, dim: int) -> Choice:
    return _ranked_by(uniform_action(dim, question.seed), question.pool, question.k)


def _slate(drawn: DrawnSlate, scores: Sequence[float]) -> Choice:
    return Choice(drawn.indices, scores, drawn.propensities, drawn.explored)


def _ranked_by(drawn: DrawnAction, pool: Pool, k: int) -> Choice:
    """The K items of largest w · item; none where items do not have as many numbers as the action."""
    if not len(pool) or pool.table.numbers.shape[1] != len(drawn.action):
        return Choice((), (), (), drawn.explored, drawn)
    weights = np.array(drawn.action, np.float32)
    scores = pool.scores(lambda items: weights @ items.vectors, _number_vectors)
    indices = np.argsort(-scores, kind="stable")[:k].tolist()
    return Choice(indices, scores[indices].tolist(), [None] * len(indices), drawn.explored, drawn)


def _number_vectors(items: Sequence[Encoded]) -> ItemVectors:
    numbers: Floats = np.array([item.numbers for item in items], np.float32)
    return number_vectors(numbers)
