"""What a policy chooses of a pool, or chance where none acts: a pair of functions an action kind."""

from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np

from policies.features import Encoded
from policies.networks import Floats, ItemVectors
from policies.noise import DrawnAction, draw_action, uniform_action
from policies.policy import SlatePolicy, WeightsPolicy
from policies.shortlists import draw_with_shortlist
from policies.slates import DrawnSlate, draw_slates, draw_uniform_slate
from schemas.sections import GaussianExploration, GreedyExploration, SoftmaxExploration
from service.catalogue import number_vectors
from service.pool import Pool

_SCORES_A_PICK = 32  # of products with a weight vector

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


def choose_slates(policy: SlatePolicy, questions: Sequence[Question], exploration: SlateExploration) -> list[Choice]:
    """Of B questions of one k whose pools are of one size, and all of a catalogue with an index or none.

    Raises ValueError: the policy's scores are not finite.
    """
    states = policy.state_vectors([each.state for each in questions])
    if questions[0].pool.indexed is not None:
        asked = zip(states, questions, strict=True)
        return [_choose_of_shortlist(policy, *each, exploration) for each in asked]
    scores = _scores(policy, states, [each.pool for each in questions])
    drawn = draw_slates(scores, questions[0].k, exploration, [each.seed for each in questions])
    chosen = scores[np.arange(len(scores))[:, None], drawn.indices]
    parts = (drawn.indices, chosen, drawn.propensities, drawn.explored)
    return [Choice(*each) for each in zip(*(part.tolist() for part in parts), strict=True)]


def _choose_of_shortlist(
    policy: SlatePolicy, state_vector: Floats, question: Question, exploration: SlateExploration
) -> Choice:
    items = question.pool.indexed
    assert items is not None  # the caller makes sure
    shortlist = items.shortlist(state_vector, np.array(question.pool.gone, np.intp))
    drawn = draw_with_shortlist(shortlist, question.pool.eligible, question.k, exploration, question.seed)
    scores = policy.scores(state_vector, items.take(np.array(drawn.indices, np.intp)))
    slate = _slate(drawn, scores.tolist())
    return msgspec.structs.replace(slate, shortlist=shortlist.rows.tolist())


def choose_slate_by_chance(question: Question) -> Choice:
    pool = question.pool
    num, gone = (len(pool), ()) if pool.rows is not None else (pool.eligible.num_rows, pool.eligible.gone)
    drawn = draw_uniform_slate(num, question.k, question.seed, gone)
    return _slate(drawn, [0.0] * len(drawn.indices))


def _scores(policy: SlatePolicy, states: Floats, pools: Sequence[Pool]) -> Floats:
    """[B, N] for state vectors [B, D] and B pools of N items of one table, all of which are all of it, or none."""
    known, scores_a_pick = pools[0].table.vectors, policy.network.scores_a_pick
    if (
        not isinstance(known, ItemVectors)
        or len(known) > scores_a_pick * len(pools[0])
        or any(pool.given for pool in pools)
    ):
        asked = zip(states, pools, strict=True)
        scores = [pool.scores(partial(policy.scores, each), policy.item_vectors, scores_a_pick) for each, pool in asked]
        return np.stack(scores)
    scored = policy.scores(states, known)
    if pools[0].rows is None:
        return scored
    return scored[np.arange(len(pools))[:, None], np.array([pool.rows for pool in pools], np.intp)]


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
    scores = pool.scores(lambda items: weights @ items.vectors, _number_vectors, _SCORES_A_PICK)
    indices = np.argsort(-scores, kind="stable")[:k].tolist()
    return Choice(indices, scores[indices].tolist(), [None] * len(indices), drawn.explored, drawn)


def _number_vectors(items: Sequence[Encoded]) -> ItemVectors:
    numbers: Floats = np.array([item.numbers for item in items], np.float32)
    return number_vectors(numbers)
