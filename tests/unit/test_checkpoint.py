"""A checkpoint comes back as it was, or not at all."""

import logging
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import FILE, Checkpoint, CheckpointError, read_checkpoint, usable_checkpoint, write_checkpoint

MADE = Checkpoint(
    "shop dqn",
    {
        "a.weight": torch.tensor([[1.5, -2.0]]),
        "step": torch.tensor(7.0),
        "mean": torch.tensor(1 / 3, dtype=torch.float64),
    },
    {"revision": 12, "rng": {"state": 2**127 + 1}},
)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "training", MADE)
    back = read_checkpoint(tmp_path / "training", "shop dqn")
    assert back is not None
    assert back.facts == MADE.facts
    assert back.tensors.keys() == MADE.tensors.keys()
    assert all(torch.equal(back.tensors[name], MADE.tensors[name]) for name in MADE.tensors)
    assert back.tensors["mean"].dtype == torch.float64


def test_without_a_file_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, "shop dqn") is None


def test_a_half_written_file_does_not_count(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, MADE)
    (tmp_path / f"{FILE}.tmp").write_bytes(b"killed while writ")
    assert read_checkpoint(tmp_path, "shop dqn") is not None


@pytest.mark.parametrize("at", [3, 40, -1], ids=["length", "header", "data"])
def test_a_flipped_byte_is_found(tmp_path: Path, at: int) -> None:
    write_checkpoint(tmp_path, MADE)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[at] ^= 0x01
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path, "shop dqn")


def test_an_unusable_file_is_kept_aside_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(b"not a checkpoint")
    with caplog.at_level(logging.ERROR):
        assert usable_checkpoint(tmp_path, "shop dqn") is None
    assert "starting afresh" in caplog.text
    assert (tmp_path / "state.unusable.safetensors").read_bytes() == b"not a checkpoint"
    assert not (tmp_path / FILE).exists()


def test_another_loop_cannot_go_on_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_checkpoint(tmp_path, MADE)
    assert usable_checkpoint(tmp_path, "shop ddpg") is None
    assert "it is of shop dqn, and the loop file now asks for shop ddpg" in caplog.text
