"""Worlds by name: what `--world` takes, and what it answers to a mistake."""

from pathlib import Path

import pytest

from schemas.loop_file import read_loop
from simulators.shop import Shop
from simulators.world import WorldError
from simulators.worlds import WORLDS, parse_world


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_brings_a_loop_file(name: str, tmp_path: Path) -> None:
    for file in ("generator_model.pt", "leave_model.pt", "action_model.pt"):
        (tmp_path / file).touch()
    spec = parse_world(name if name == "shop" else f"{name}:{tmp_path}")
    assert spec.loop == read_loop(spec.loop_path)
    assert "leave" in spec.loop.session.ends
    assert str(spec).startswith(name)


def test_the_seed_makes_the_shop() -> None:
    assert parse_world("shop").make(3) == Shop(3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("shoq", ["'shoq'", "shop, virtualtb, virtualtb-bern30, virtualtb-soft1000"]),
        ("", ["''", "shop, virtualtb"]),
        ("shop:data", ["shop takes no folder", "'shop:data'"]),
        ("virtualtb", ["folder of weights", "virtualtb:FOLDER"]),
        ("virtualtb:", ["virtualtb:FOLDER"]),
        ("virtualtb:/nowhere", ["/nowhere is no folder", "generator_model.pt"]),
    ],
)
def test_a_mistake_is_named(text: str, words: list[str]) -> None:
    with pytest.raises(WorldError) as caught:
        parse_world(text)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "generator_model.pt").touch()
    with pytest.raises(WorldError, match=r"has no file leave_model\.pt"):
        parse_world(f"virtualtb:{tmp_path}")
