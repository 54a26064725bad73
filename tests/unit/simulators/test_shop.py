"""The world `shop`: its formulas by hand, its dials, and the bounds that make it worth learning in."""

import zlib

import numpy as np
import pytest

from schemas.messages import RankedItem, Recommendation
from schemas.sections import CategoryFeature
from simulators.shop import MAX_DECISIONS, NUM_ITEMS, Dials, Shop
from simulators.shop_bounds import shop_bounds
from simulators.world import Outcome, State, WorldError, random_reward, renew
from tests.fakes.shop import shop_of

SHOP = Shop()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def state_of(users: list[int], satisfaction: list[float], num_decisions: int = 0) -> State:
    return {
        "user": np.array(users),
        "satisfaction": np.array(satisfaction),
        "num_decisions": np.full(len(users), num_decisions),
        "candidates": np.tile(np.arange(10), (len(users), 1)),
    }


# ------------------------------------------------------------------ the formulas


def test_the_expected_reward_is_the_click_probability_by_hand() -> None:
    shop = shop_of(appeal=np.array([[0.0, -2.0], [2.0, 0.0]]), delight=np.zeros((2, 2)))
    oracle = shop.oracle_reward(state_of([0, 0, 1], [0.0, 1.0, -1.0]), np.array([[0], [1], [0]]))
    # σ(0), σ(−2 + 2 · 1), σ(2 − 2 · 1); and σ(2) = .88080
    assert oracle[:, 0] == pytest.approx([0.5, 0.5, 0.5])
    assert shop.click_probability(np.array(0), np.array(1.0), np.array(0)) == pytest.approx(0.8807971)


def test_satisfaction_moves_by_the_item_shown_and_stays_in_its_range() -> None:
    shop = shop_of(appeal=np.zeros((1, 3)), delight=np.array([[0.1, -0.05, 0.4]]))
    after = shop.step(state_of([0, 0, 0], [0.4, 0.4, 1.0]), np.array([[0], [1], [2]]), rng()).next_state
    assert after["satisfaction"] == pytest.approx([0.85 * 0.4 + 0.1, 0.85 * 0.4 - 0.05, 1.0])


def test_the_mean_click_probability_at_satisfaction_0_is_the_click_rate() -> None:
    for click_rate in (0.2, 0.01, 0.95):
        shop = Shop(3, Dials(click_rate=click_rate))
        everything = shop.click_probability(np.arange(1000)[:, None], np.array(0.0), np.arange(NUM_ITEMS))
        assert everything.mean() == pytest.approx(click_rate, abs=1e-9)


def test_a_quality_that_goes_against_clicks_is_what_satisfies() -> None:
    truth = Shop(1).truth
    # Over items: what is clicked (clickbait) and what delights (quality) must disagree.
    assert np.corrcoef(truth.appeal.mean(axis=0), truth.delight.mean(axis=0))[0, 1] < -0.3
    assert np.abs(truth.delight).max() < 0.15


def test_equal_seeds_make_equal_shops() -> None:
    assert np.array_equal(Shop(5).truth.appeal, Shop(5).truth.appeal)
    assert not np.array_equal(Shop(5).truth.appeal, Shop(6).truth.appeal)


# ------------------------------------------------------------------ sessions


def test_candidates_are_distinct_and_every_item_comes() -> None:
    candidates = SHOP.start(2_000, rng())["candidates"]
    assert all(len(set(row)) == 10 for row in candidates.tolist())
    assert np.bincount(candidates.ravel(), minlength=NUM_ITEMS).min() > 0  # 40 expected of each


def test_a_session_is_cut_after_20_decisions_and_nobody_says_leave() -> None:
    shop, generator = SHOP, rng()
    state = shop.start(3, generator)
    for i in range(1, MAX_DECISIONS + 1):
        actions = shop.random_actions(state, generator)
        outcome = shop.step(state, actions, generator)
        assert outcome.done.tolist() == [i == MAX_DECISIONS] * 3
        assert not outcome.terminated.any()
        assert all(event.kind == "click" for events in shop.events(actions, outcome) for event in events)
        state = outcome.next_state


def test_who_leaves_says_so_last_at_the_20th_decision_too() -> None:
    shop = shop_of(np.full((1, 1), 50.0), np.zeros((1, 1)), Dials(leave=100.0))
    state, actions = state_of([0], [-1.0], MAX_DECISIONS - 1), np.zeros((1, 1), np.int64)
    outcome = shop.step(state, actions, rng())
    assert outcome.terminated.tolist() == [True]
    assert [event.kind for event in shop.events(actions, outcome)[0]] == ["click", "leave"]


def test_a_click_says_which_item_and_what_it_was_worth() -> None:
    outcome = Outcome(np.array([[0.0, 2.5], [0.0, 0.0]]), np.array([False, True]), {})
    first, second = Shop(0, Dials(k=2)).events(np.array([[7, 9], [1, 2]]), outcome)
    assert [(e.kind, e.value, e.item_id) for e in first] == [("click", 2.5, "item-9")]
    assert [(e.kind, e.value, e.item_id) for e in second] == [("leave", 1.0, None)]


def test_step_leaves_the_state_as_it_was() -> None:
    shop, generator = SHOP, rng()
    state = shop.start(4, generator)
    before = {name: column.copy() for name, column in state.items()}
    shop.step(state, state["candidates"][:, :1], generator)
    assert all(np.array_equal(before[name], state[name]) for name in state)


def test_renew_starts_a_session_where_one_ended_and_only_there() -> None:
    shop, generator = SHOP, rng()
    state = state_of([1, 2], [0.5, 0.5], num_decisions=3)
    state["num_decisions"][1] = MAX_DECISIONS - 1
    state = renew(shop, shop.step(state, state["candidates"][:, :1], generator), generator)
    assert state["num_decisions"].tolist() == [4, 0]
    assert state["user"][0] == 1
    assert state["satisfaction"][0] != 0.0
    assert state["satisfaction"][1] == 0.0


# ------------------------------------------------------------------ what a recommender sees


def test_requests_hold_what_the_loop_file_says() -> None:
    shop = SHOP
    [request] = shop.requests(shop.start(1, rng()))
    assert request.context is not None
    assert request.context.keys() == shop.loop.state.keys()
    assert request.candidates is not None
    assert len(request.candidates) == 10
    catalogue = shop.catalogue()
    assert len(catalogue) == NUM_ITEMS
    assert {*request.candidates} <= {item.item_id for item in catalogue}
    assert all(item.features.keys() == shop.loop.item.keys() - {"id"} for item in catalogue)


def test_categories_stay_within_the_sizes_of_the_loop_file() -> None:
    shop = Shop(2)
    for i in range(3):
        feature = shop.loop.state[f"c{i}"]
        assert isinstance(feature, CategoryFeature)
        assert set(shop.truth.user_categories[:, i]) == set(range(feature.size or 0))


def test_the_ids_of_the_shop_share_no_bucket() -> None:
    feature = SHOP.loop.item["id"]
    assert isinstance(feature, CategoryFeature)
    assert feature.buckets is not None
    buckets = {zlib.crc32(item.item_id.encode()) % feature.buckets for item in SHOP.catalogue()}
    assert len(buckets) == NUM_ITEMS


def test_an_answer_becomes_the_places_of_its_items() -> None:
    def answer(*items: str) -> Recommendation:
        return Recommendation("d", [RankedItem(item, 0.0, 0.1) for item in items], None, "fallback")

    assert SHOP.actions([answer("item-3"), answer("item-499")]).tolist() == [[3], [499]]
    with pytest.raises(WorldError, match="no item 'item-500'"):
        SHOP.actions([answer("item-500")])
    with pytest.raises(WorldError, match="shows 2 items; the answer has 1"):
        Shop(0, Dials(k=2)).actions([answer("item-3")])


# ------------------------------------------------------------------ dials


@pytest.mark.parametrize("dials", [Dials(theta=0.1), Dials(heavy=1.0), Dials(theta=0.25, heavy=0.5)])
def test_noise_keeps_the_expected_reward(dials: Dials) -> None:
    shop = shop_of(np.zeros((1, 1)), np.zeros((1, 1)), dials)
    rewards = shop.step(state_of([0] * 200_000, [0.0] * 200_000), np.zeros((200_000, 1), np.int64), rng()).rewards
    error = rewards.std() / np.sqrt(200_000)
    assert rewards.mean() == pytest.approx(0.5, abs=4 * error)
    assert (rewards > 0).mean() == pytest.approx(0.5 * dials.theta, abs=0.01)
    assert np.unique(rewards).tolist() == [0.0, 1 / dials.theta] or dials.heavy > 0


def test_deterministic_pays_the_probability_itself() -> None:
    shop, generator = Shop(0, Dials(deterministic=True)), rng()
    state = shop.start(10, generator)
    actions = shop.random_actions(state, generator)
    assert np.array_equal(shop.step(state, actions, generator).rewards, shop.oracle_reward(state, actions))


def test_gaussian_noise_has_mean_0_and_the_sd_asked_for() -> None:
    shop, generator = Shop(0, Dials(deterministic=True, gaussian=0.7)), rng()
    state = shop.start(20_000, generator)
    actions = shop.random_actions(state, generator)
    noise = shop.step(state, actions, generator).rewards - shop.oracle_reward(state, actions)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert noise.std() == pytest.approx(0.7, rel=0.02)


def test_a_slate_is_moved_by_its_mean_and_clicked_item_by_item() -> None:
    shop = shop_of(np.array([[50.0, -50.0, 50.0]]), np.array([[0.1, 0.0, -0.04]]), Dials(k=3))
    outcome = shop.step(state_of([0], [0.0]), np.array([[0, 1, 2]]), rng())
    assert outcome.rewards.tolist() == [[1.0, 0.0, 1.0]]
    assert outcome.next_state["satisfaction"] == pytest.approx([0.02])
    assert shop.loop.action.kind == "slate"
    assert shop.loop.action.size == 3


def test_the_dissatisfied_leave() -> None:
    shop = shop_of(np.zeros((1, 1)), np.zeros((1, 1)), Dials(leave=3.0))
    num = 40_000
    for satisfaction, stays in ((0.0, 0.94785), (-0.5, 0.83539)):  # σ(2.9), σ(2.9 − 3 · .85 · .5)
        outcome = shop.step(state_of([0] * num, [satisfaction] * num), np.zeros((num, 1), np.int64), rng())
        assert 1 - outcome.done.mean() == pytest.approx(stays, abs=0.006)


@pytest.mark.parametrize(
    "wrong", [{"theta": 0.0}, {"theta": 2.0}, {"click_rate": 1.0}, {"k": 0}, {"k": 11}, {"heavy": -1}]
)
def test_a_dial_turned_too_far_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(WorldError, match="shop takes click_rate"):
        Dials(**wrong)  # type: ignore[arg-type]  # that is the point


# ------------------------------------------------------------------ bounds


def simulated(shop: Shop, num_sessions: int, *, greedy: bool) -> float:
    """Mean true expected reward a session, of the greedy or the random policy."""
    generator = rng(7)
    state, total = shop.start(num_sessions, generator), 0.0
    for _ in range(MAX_DECISIONS):
        actions = shop.random_actions(state, generator)
        if greedy:
            best = shop.oracle_reward(state, state["candidates"]).argmax(axis=1)
            actions = np.take_along_axis(state["candidates"], best[:, None], axis=1)
        total += float(shop.oracle_reward(state, actions).sum())
        state = shop.step(state, actions, generator).next_state
    return total / num_sessions


def test_random_gets_about_4_a_session_and_greedy_more_than_twice_that() -> None:
    shop = Shop(0)
    uniform, greedy = simulated(shop, 4_000, greedy=False), simulated(shop, 4_000, greedy=True)
    assert uniform == pytest.approx(4.05, abs=0.15)
    assert greedy == pytest.approx(9.2, abs=0.9)  # of 8 shops 9.19 ± .29
    assert random_reward(shop, 4_000, rng()) * MAX_DECISIONS == pytest.approx(uniform, abs=0.1)


@pytest.mark.slow
def test_bounds_over_five_shops() -> None:
    """Backward induction agrees with simulation, and looking ahead beats the greedy policy in every shop."""
    bounds = [shop_bounds(Shop(seed), rng(seed), num_users=150, num_draws=16, grid_size=11) for seed in range(5)]
    for seed, found in enumerate(bounds):
        assert found.random == pytest.approx(simulated(Shop(seed), 4_000, greedy=False), rel=0.05)
        assert found.myopic == pytest.approx(simulated(Shop(seed), 4_000, greedy=True), rel=0.05)
        assert found.optimal > found.myopic + 1.5
    assert np.mean([found.optimal for found in bounds]) == pytest.approx(11.6, abs=0.4)


def test_bounds_are_for_one_item_a_decision() -> None:
    with pytest.raises(WorldError, match="k = 2"):
        shop_bounds(Shop(0, Dials(k=2)), rng())
