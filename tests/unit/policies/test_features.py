"""What contexts and items are encoded to, with numbers worked out by hand, and what is refused."""

import math
import zlib
from typing import Any

import pytest

from policies.features import FeatureError, ItemEncoder, StateEncoder, Table, network_layouts
from tests.unit.policies.loops import slate_loop, weights_loop

STATE = """
    page = { kind = "number", max = 100 }
    heat = { kind = "number", min = 10, max = 20 }
    views = { kind = "number", max = 7, scale = "log" }
    spent = { kind = "number", min = 2, scale = "log" }
    score = { kind = "number" }
    age = { kind = "category", values = ["18-24", "25-34"] }
    shop = { kind = "category", size = 3 }
    city = { kind = "category", buckets = 1000 }
    tags = { kind = "categories", values = ["a", "b", "c"], length = 2 }
    seen = { kind = "items", length = 3 }
    taste = { kind = "vector", dim = 2 }
"""
ITEM = """
    price = { kind = "number", max = 10 }
    id = { kind = "category", buckets = 1000 }
    genre = { kind = "category", size = 5 }
"""
CHECK = "123456789"  # whose crc32 is 0xCBF43926 = 3421780262 by the algorithm's own definition
CHECK_SLOT = 263  # 1 + 3421780262 mod 1000

NUMBERS = {"page": 0, "heat": 1, "views": 2, "spent": 3, "score": 4}
SLOTS = {"age": 0, "shop": 1, "city": 2}


def state_encoder() -> StateEncoder:
    return StateEncoder(slate_loop(STATE, ITEM))


@pytest.mark.parametrize(
    ("name", "value", "number", "num_clipped"),
    [
        ("page", 25, 0.25, 0),
        ("page", 100, 1.0, 0),
        ("page", 150, 1.0, 1),
        ("page", -0.5, 0.0, 1),
        ("page", None, 0.0, 0),
        ("page", 10**400, 1.0, 1),
        ("heat", 15, 0.5, 0),
        ("views", 1, math.log(2) / math.log(8), 0),  # a third
        ("spent", 2 + math.e - 1, 1.0, 0),
        ("spent", 1, 0.0, 1),
        ("score", -3.5, -3.5, 0),
        ("score", 1e30, 1e15, 1),
    ],
)
def test_numbers(name: str, value: object, number: float, num_clipped: int) -> None:
    encoded = state_encoder().encode({name: value})
    assert encoded.numbers[NUMBERS[name]] == pytest.approx(number)
    assert encoded.num_clipped == num_clipped


@pytest.mark.parametrize(
    ("name", "value", "slot", "num_unknown"),
    [
        ("age", "18-24", 1, 0),
        ("age", "25-34", 2, 0),
        ("age", "90", 0, 1),
        ("age", None, 0, 0),
        ("shop", 0, 1, 0),
        ("shop", 2, 3, 0),
        ("shop", 3, 0, 1),
        ("shop", -1, 0, 1),
        ("city", CHECK, CHECK_SLOT, 0),
        ("city", int(CHECK), CHECK_SLOT, 0),
        ("city", "\ud800", 1 + zlib.crc32(b"\xed\xa0\x80") % 1000, 0),
    ],
)
def test_categories(name: str, value: object, slot: int, num_unknown: int) -> None:
    encoded = state_encoder().encode({name: value})
    assert encoded.slots[SLOTS[name]] == slot
    assert encoded.num_unknown == num_unknown


@pytest.mark.parametrize(
    ("tags", "slots", "num_unknown"),
    [
        ([], [0, 0], 0),
        (["c"], [3, 0], 0),
        (["b", "b", "a"], [2, 1], 0),
        (["x", "a", "b", "c"], [1, 2], 1),
    ],
)
def test_a_set_is_cut_and_padded(tags: list[str], slots: list[int], num_unknown: int) -> None:
    encoded = state_encoder().encode({"tags": tags})
    assert encoded.slots[3:5] == slots
    assert encoded.num_unknown == num_unknown


def test_of_items_the_newest_are_kept_and_share_the_slots_of_item_ids() -> None:
    encoder = ItemEncoder(slate_loop(STATE, ITEM))
    ids = ["a", "b", "c", CHECK]
    own = [encoder.encode(item_id, {}).slots[0] for item_id in ids]
    assert own[3] == CHECK_SLOT
    assert state_encoder().encode({"seen": ids}).slots[5:8] == own[1:]
    assert state_encoder().encode({"seen": ids[:2]}).slots[5:8] == [*own[:2], 0]


def test_a_context_that_is_absent_takes_defaults_within_the_ranges() -> None:
    encoded = state_encoder().encode(None)
    assert encoded.slots == [0] * 8
    assert encoded.numbers == [0.0] * 7  # heat and spent: 0 clipped to 10 and 2, which are their lows
    assert (encoded.num_clipped, encoded.num_unknown) == (0, 0)
    assert StateEncoder(slate_loop("x = { kind = 'number', min = -4, max = 4 }")).encode({}).numbers == [0.5]


def test_what_was_encoded_before_leaves_no_trace() -> None:
    encoder = state_encoder()
    encoder.encode({"page": 3, "seen": ["a"], "taste": [1, 2]})
    assert encoder.encode({}) == encoder.encode(None)


def test_the_layout_says_which_slots_are_whose() -> None:
    layout = state_encoder().layout
    assert layout.tables == (
        Table("state.age", 3, slice(0, 1), pooled=False),
        Table("state.shop", 4, slice(1, 2), pooled=False),
        Table("state.city", 1001, slice(2, 3), pooled=False),
        Table("state.tags", 4, slice(3, 5), pooled=True),
        Table("item.id", 1001, slice(5, 8), pooled=True),
    )
    assert (layout.num_slots, layout.num_numbers) == (8, 7)
    assert layout.scaled_by_data == (False, False, False, True, True, True, True)


def test_items() -> None:
    encoder = ItemEncoder(slate_loop(STATE, ITEM))
    encoded = encoder.encode(CHECK, {"price": 5, "genre": 4})
    assert (encoded.slots, encoded.numbers) == ([CHECK_SLOT, 5], [0.5])
    assert [table.name for table in encoder.layout.tables] == ["item.id", "item.genre"]


@pytest.mark.parametrize(("item_id", "slot"), [("0", 1), ("4", 5), ("5", 0), ("04", 0), ("x", 0), ("٤", 0)])
def test_item_ids_of_a_size_are_its_integers_written_out(item_id: str, slot: int) -> None:
    encoded = ItemEncoder(slate_loop("", "id = { kind = 'category', size = 5 }")).encode(item_id, {})
    assert (encoded.slots, encoded.num_unknown) == ([slot], int(slot == 0))


@pytest.mark.parametrize(
    ("context", "loc", "words"),
    [
        ({"page": "3"}, ("page",), ["page", "number", "'3'"]),
        ({"page": True}, ("page",), ["number", "True"]),
        ({"page": math.nan}, ("page",), ["finite", "nan"]),
        ({"score": math.inf}, ("score",), ["finite", "inf"]),
        ({"age": 3}, ("age",), ["text", "18-24, 25-34", "3"]),
        ({"age": ["18-24"]}, ("age",), ["text"]),
        ({"shop": "1"}, ("shop",), ["integer from 0 to 2", "'1'"]),
        ({"shop": 1.0}, ("shop",), ["integer from 0 to 2"]),
        ({"shop": True}, ("shop",), ["integer"]),
        ({"city": 1.5}, ("city",), ["text or an integer", "1.5"]),
        ({"tags": "a"}, ("tags",), ["list", "'a'"]),
        ({"tags": ["a", 2]}, ("tags", 1), ["tags.1", "text", "2"]),
        ({"seen": [None]}, ("seen", 0), ["seen.0", "item id", "None"]),
        ({"taste": [1]}, ("taste",), ["list of 2 numbers"]),
        ({"taste": [1, "2"]}, ("taste", 1), ["taste.1", "number", "'2'"]),
        ({"taste": [1, False]}, ("taste", 1), ["number", "False"]),
        ({"taste": [math.nan, 10**400]}, ("taste", 0), ["finite"]),
        ({"colour": "red"}, ("colour",), ["colour", "not known", "[state]", "page, heat", "'red'"]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    context: dict[str, Any], loc: tuple[str | int, ...], words: list[str]
) -> None:
    with pytest.raises(FeatureError) as caught:
        state_encoder().encode(context)
    assert caught.value.loc == loc
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_does_not_fit_takes_its_default_where_one_is_lenient() -> None:
    encoder = state_encoder()
    context = {"colour": "red", "taste": [1.0, "2"], "seen": ["a", 3], "page": 50, "age": 7}
    assert encoder.encode(context, lenient=True) == encoder.encode({"page": 50})


def test_a_vector_is_clipped_where_it_must_be() -> None:
    encoded = state_encoder().encode({"taste": [-(10**400), 2]})
    assert (encoded.numbers[5:], encoded.num_clipped) == ([-1e15, 2], 1)


def test_the_id_of_an_item_is_not_sent() -> None:
    with pytest.raises(FeatureError, match="id: is filled from item_id"):
        ItemEncoder(slate_loop(STATE, ITEM)).encode("a", {"id": "a"})


def test_for_weights_the_network_reads_nothing_of_an_item() -> None:
    _, items = network_layouts(weights_loop(3, "x = { kind = 'number' }"))
    assert (items.tables, items.num_slots, items.num_numbers) == ((), 0, 0)
