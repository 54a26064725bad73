"""What networks read of a world, for all sessions at once: looked up in arrays instead of encoded request by request.

`EncodedRequests` takes any world and is the measure for the others: it encodes what the world asks, as the product
does.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from policies.features import ITEM_ID_TABLE, ItemEncoder, Layout, StateEncoder, network_layouts
from schemas.loop_file import Loop
from simulators.shop import NO_ITEM, NUM_CANDIDATES, NUM_USERS, Shop
from simulators.virtualtb import MAX_CLICKS, MAX_INDEX, MAX_PAGE, VirtualTaobao
from simulators.world import Flags, Ints, State, World, WorldError
from studies.gym_worlds import GymWorld
from trainer.replay.item_table import ItemTable
from trainer.replay.replay import ProbeStates

EncodedStates = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Slots [n, S] and numbers [n, G]."""


class EncodedWorld(ABC):
    """A world as a loop's networks see it."""

    num_candidates: int
    """C, of every decision; 0 where the action is a vector of weights."""

    def __init__(self, world: World, loop: Loop) -> None:
        self.state_layout, self.item_layout = network_layouts(loop)
        self.items = ItemTable(self.item_layout.num_slots, self.item_layout.num_numbers)
        encoder = ItemEncoder(loop)
        rows = [self.items.intern(encoder.encode(item.item_id, item.features)) for item in world.catalogue()]
        self.item_rows = np.array(rows, np.int32)
        """[M] rows of the item table by place in the catalogue."""

    @abstractmethod
    def states(self, state: State) -> EncodedStates: ...

    @abstractmethod
    def candidates(self, state: State) -> Ints:
        """[n, C] places in the catalogue."""

    def probe(self, state: State) -> ProbeStates:
        slots, numbers = self.states(state)
        rows = self.item_rows[self.candidates(state)]
        items = self.items.slots[rows].astype(np.int64), self.items.numbers[rows]
        return ProbeStates(slots.astype(np.int64), numbers, *items, np.ones(rows.shape, np.bool_))


class EncodedShop(EncodedWorld):
    num_candidates = NUM_CANDIDATES

    def __init__(self, shop: Shop, loop: Loop) -> None:
        super().__init__(shop, loop)
        state = shop.start(NUM_USERS, np.random.default_rng(0)) | {"user": np.arange(NUM_USERS)}
        states = StateEncoder(loop)
        self._user_slots = np.array([states.encode(request.context).slots for request in shop.requests(state)])

    def states(self, state: State) -> EncodedStates:
        """The number [n, 1] is the satisfaction, from 0 to 1."""
        numbers = (state["satisfaction"][:, None] + 1.0) / 2.0
        return self._user_slots[state["user"]].astype(np.int32), numbers.astype(np.float32)

    def candidates(self, state: State) -> Ints:
        return state["candidates"]


class EncodedHiddenShop(EncodedShop):
    """With the dial `hidden`: slots of the last items and of the clicked ones, and no numbers."""

    def __init__(self, shop: Shop, loop: Loop) -> None:
        super().__init__(shop, loop)
        self._history, self._clicked = _id_slices(self.state_layout)
        [of_item] = _id_slices(self.item_layout)
        self._id_slots = self.items.slots[self.item_rows, of_item.start]

    def states(self, state: State) -> EncodedStates:
        slots = self._user_slots[state["user"]].astype(np.int32)
        slots[:, self._history] = self._ids(state["history"], state["history"] != NO_ITEM)
        slots[:, self._clicked] = self._ids(state["history"], state["clicked"])
        return slots, np.zeros((len(slots), 0), np.float32)

    def _ids(self, places: Ints, kept: Flags) -> NDArray[np.int32]:
        """The slots [n, L] of those of places [n, L] that are kept [n, L], in their order, and then zeros."""
        order = np.argsort(~kept, axis=1, kind="stable")
        slots = np.where(kept, self._id_slots[places], 0)
        return np.take_along_axis(slots, order, axis=1)


class EncodedTaobao(EncodedWorld):
    num_candidates = 0

    def states(self, state: State) -> EncodedStates:
        """The numbers [n, 3] are clicks and index of the page before, and the page, each from 0 to 1."""
        pages = np.log1p(np.minimum(state["num_pages"], MAX_PAGE)) / np.log1p(MAX_PAGE)
        numbers = np.stack([state["clicks"] / MAX_CLICKS, state["index"] / MAX_INDEX, pages], axis=1)
        return (1 + state["features"]).astype(np.int32), numbers.astype(np.float32)

    def candidates(self, state: State) -> Ints:
        return _nothing(len(state["clicks"]))


class EncodedGym(EncodedWorld):
    """A state is the observation and nothing else; where there are items all of them are candidates."""

    def __init__(self, world: GymWorld, loop: Loop) -> None:
        super().__init__(world, loop)
        self._world = world
        self.num_candidates = len(self.item_rows)

    def states(self, state: State) -> EncodedStates:
        observations = self._world.observations(state)
        return np.zeros((len(observations), 0), np.int32), observations.astype(np.float32)

    def candidates(self, state: State) -> Ints:
        return _all_places(len(state["num_steps"]), self.num_candidates)


class EncodedRequests(EncodedWorld):
    """Any world, by what it asks: much slower."""

    def __init__(self, world: World, loop: Loop) -> None:
        super().__init__(world, loop)
        self._world, self._encoder = world, StateEncoder(loop)
        self._places = {item.item_id: place for place, item in enumerate(world.catalogue())}
        self.num_candidates = self.candidates(world.start(1, np.random.default_rng(0))).shape[1]

    def states(self, state: State) -> EncodedStates:
        encoded = [self._encoder.encode(request.context) for request in self._world.requests(state)]
        slots = np.array([each.slots for each in encoded], np.int32)
        return slots, np.array([each.numbers for each in encoded], np.float32)

    def candidates(self, state: State) -> Ints:
        asked = [request.candidates for request in self._world.requests(state)]
        if None in asked:
            return _all_places(len(asked), len(self._places))
        return np.array([[self._places[str(item)] for item in items or ()] for items in asked])


def encoded_world(world: World, loop: Loop) -> EncodedWorld:
    """The world as the loop's networks see it, in the fastest way there is; raises `WorldError` for slates of more."""
    if loop.action.kind == "slate" and loop.action.size != 1:
        raise WorldError(f"a batched run shows one item a decision; found action.size = {loop.action.size}")
    if isinstance(world, Shop):
        return EncodedHiddenShop(world, loop) if world.dials.hidden else EncodedShop(world, loop)
    if isinstance(world, VirtualTaobao):
        return EncodedTaobao(world, loop)
    return EncodedGym(world, loop) if isinstance(world, GymWorld) else EncodedRequests(world, loop)


def _id_slices(layout: Layout) -> list[slice]:
    """Where a layout has slots of item ids."""
    return [table.slots for table in layout.tables if table.name == ITEM_ID_TABLE]


def _all_places(num_sessions: int, num_items: int) -> Ints:
    return np.tile(np.arange(num_items), (num_sessions, 1))


def _nothing(num_sessions: int) -> Ints:
    return np.zeros((num_sessions, 0), np.int64)
