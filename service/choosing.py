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
    asked = list(zip(states, questions, strict=True))
    if questions[0].pool.indexed is not None:
        return [_choose_of_shortlist(policy, *each, exploration) for each in asked]
    scores = np.stack([_scores(policy, *each) for each in asked])  # [B, N]
    drawn = draw_slates(scores, questions[0].k, exploration, [each.seed for each in questions])
    return [_slate(each, of_it[each.indices].tolist()) for each, of_it in zip(drawn, scores, strict=True)]


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


def _scores(policy: SlatePolicy, state: Floats, question: Question) -> Floats:
    see_each_other = policy.network.items_see_each_other
    return question.pool.scores(partial(policy.scores, state), policy.item_vectors, items_see_each_other=see_each_other)


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
