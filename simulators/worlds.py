"""The worlds by name. A world is one file and one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.loop_file import Loop, read_loop
from simulators.shop import Shop
from simulators.virtualtb import Variant, VirtualTaobao, check_folder, load_networks
from simulators.world import World, WorldError


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a world is made of a folder and a seed, and what must hold of the folder first."""

    make: Callable[[Path, int], World]
    loop: str
    check: Callable[[Path], None] | None = None
    """None: the world takes no folder."""


def _virtualtb(variant: Variant) -> _Kind:
    return _Kind(lambda folder, _: VirtualTaobao(load_networks(folder), variant), "virtualtb.toml", check_folder)


WORLDS: dict[str, _Kind] = {
    "shop": _Kind(lambda _, seed: Shop(seed), "shop.toml"),
    "virtualtb": _virtualtb("native"),
    "virtualtb-bern30": _virtualtb("bern30"),
    "virtualtb-soft1000": _virtualtb("soft1000"),
}


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """A world as `--world NAME[:FOLDER]` names it, checked but not made yet."""

    name: str
    folder: Path | None = None

    def __str__(self) -> str:
        return self.name if self.folder is None else f"{self.name}:{self.folder}"

    @property
    def loop_path(self) -> Path:
        """The loop file that a recommender for this world needs."""
        return Path(__file__).with_name(WORLDS[self.name].loop)

    @property
    def loop(self) -> Loop:
        return read_loop(self.loop_path)

    def make(self, seed: int) -> World:
        """The world; raises `WorldError`, where its files are broken."""
        return WORLDS[self.name].make(self.folder or Path(), seed)


def parse_world(text: str) -> WorldSpec:
    """`NAME` or `NAME:FOLDER` → a spec whose name is known and whose folder has what it should; raises `WorldError`."""
    name, _, folder = text.partition(":")
    if name not in WORLDS:
        raise WorldError(f"no world is called {name!r}; there are {', '.join(WORLDS)} (as NAME or NAME:FOLDER)")
    check = WORLDS[name].check
    if check is None:
        if folder:
            raise WorldError(f"the world {name} takes no folder; say --world {name} (found {text!r})")
        return WorldSpec(name)
    if not folder:
        raise WorldError(f"the world {name} is made from a folder of weights; say --world {name}:FOLDER")
    check(Path(folder))
    return WorldSpec(name, Path(folder))
