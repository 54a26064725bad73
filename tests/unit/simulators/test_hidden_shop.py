"""The shop with its dial `hidden`: satisfaction is not observed, what was shown and clicked is."""

import numpy as np

from schemas.loop_file import Loop
from simulators.shop import MAX_DECISIONS, NO_ITEM, Dials, Shop
from simulators.world import renew
from tests.fakes.shop import shop_of


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_hidden_satisfaction_leaves_the_last_items_and_their_clicks() -> None:
    """Items 0 and 2 are clicked for sure, the others never."""
    appeal = np.array([[50.0, -50.0, 50.0] + [-50.0] * 12])
    shop = shop_of(appeal, np.zeros((1, 15)), Dials(hidden=True))
    state = shop.start(1, rng()) | {"user": np.array([0])}
    for place in (1, 0, 2):
        state = shop.step(state, np.array([[place]]), rng()).next_state
    [request] = shop.requests(state)
    assert request.context is not None
    assert request.context.keys() == shop.loop.state.keys() == {"user", "c0", "c1", "c2", "history", "clicked"}
    assert request.context["history"] == ["item-1", "item-0", "item-2"]
    assert request.context["clicked"] == ["item-0", "item-2"]
    for place in range(4, 12):
        state = shop.step(state, np.array([[place]]), rng()).next_state
    [request] = shop.requests(state)
    assert request.context is not None
    assert request.context["history"] == [f"item-{i}" for i in (0, 2, *range(4, 12))]
    assert request.context["clicked"] == ["item-0", "item-2"]


def test_a_history_begins_anew_with_each_session() -> None:
    shop, generator = Shop(0, Dials(hidden=True, k=3)), rng()
    state = shop.start(2, generator)
    state["num_decisions"][1] = MAX_DECISIONS - 1
    actions = shop.random_actions(state, generator)
    state = renew(shop, shop.step(state, actions, generator), generator)
    assert state["history"][0].tolist() == [NO_ITEM] * 7 + actions[0].tolist()
    assert state["history"][1].tolist() == [NO_ITEM] * 10
    assert not state["clicked"][1].any()


def test_hidden_satisfaction_changes_nothing_that_happens() -> None:
    outcomes = []
    for dials in (Dials(), Dials(hidden=True)):
        shop, generator = Shop(4, dials), rng()
        state = shop.start(5, generator)
        outcomes.append(shop.step(state, shop.random_actions(state, generator), generator))
    assert np.array_equal(outcomes[0].rewards, outcomes[1].rewards)
    assert np.array_equal(outcomes[0].next_state["satisfaction"], outcomes[1].next_state["satisfaction"])


def test_the_loop_of_a_hidden_shop_is_one_that_a_loop_file_could_be() -> None:
    loop = Shop(0, Dials(hidden=True)).loop
    assert Loop(**dict(loop)).hash == loop.hash  # what does not fit would raise
    assert loop.hash != Shop().loop.hash
