"""A policy folder is written whole or not at all, and every alteration of it is noticed and named."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.files import Golden, PolicyFileError, golden_outputs, read_policy, write_policy
from policies.networks import SlateNetwork, Tensors
from policies.policy import SlatePolicy, WeightsPolicy
from schemas.loop_file import Loop
from schemas.manifest import PolicyManifest
from tests.unit.policies.loops import tiny_loop, tiny_tensors, weights_loop

LOOP = tiny_loop()
GOLDEN = Golden(
    state_slots=np.zeros((2, 0), np.int64),
    state_numbers=np.array([[3], [1]], np.float32),
    item_slots=np.zeros((2, 2, 0), np.int64),
    item_numbers=np.array([[[4], [-1]], [[4], [-1]]], np.float32),
    outputs=np.array([[7, 1], [3, 1]], np.float32),  # x = 1 → s = 0.5 → 0.5 · 2 + 2
)
FILES = ("weights.safetensors", "golden.safetensors", "manifest.json")


def write(
    folder: Path, tensors: Tensors | None = None, golden: Golden = GOLDEN, loop: Loop = LOOP, **others: Any
) -> PolicyManifest:
    given: dict[str, Any] = {
        "version": "000002",
        "parent": "000001",
        "loop_hash": loop.hash,
        "created_at": 1234.5,
        "metrics": {"loss": 0.25},
        "revision": 17,
        "final_at": [1.0, 2.0],
    }
    return write_policy(folder, tiny_tensors() if tensors is None else tensors, golden, **given | others)


def sign(folder: Path) -> None:
    """Makes the manifest fit the files, by what the module says of its digests."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("weights.safetensors", "golden.safetensors"):
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["sha256"]["manifest.json"] = "0" * 64
    text = json.dumps(manifest)
    path.write_text(text.replace("0" * 64, hashlib.sha256(text.encode()).hexdigest()))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = write(tmp_path / "000002")
    policy = read_policy(tmp_path / "000002", LOOP)
    assert isinstance(policy, SlatePolicy)
    assert policy.manifest == manifest
    assert (manifest.version, manifest.parent, manifest.created_at) == ("000002", "000001", 1234.5)
    assert (manifest.metrics, manifest.revision, manifest.final_at) == ({"loss": 0.25}, 17, [1.0, 2.0])
    assert golden_outputs(policy.network, GOLDEN).tolist() == [[7, 1], [3, 1]]
    assert names_in(tmp_path) == {"000002"}
    assert names_in(tmp_path / "000002") == set(FILES)
    for name in FILES[:2]:
        assert manifest.sha256[name] == hashlib.sha256((tmp_path / "000002" / name).read_bytes()).hexdigest()


def test_a_weights_policy(tmp_path: Path) -> None:
    loop = weights_loop(2, "x = { kind = 'number', max = 4 }", "hidden = []")
    values = {
        "embeddings.state_mean": [0],
        "embeddings.state_scale": [1],
        "head.tower.out.weight": [[0.5], [0]],
        "head.tower.out.bias": [0, -0.5],
    }
    tensors = {name: np.array(value, np.float32) for name, value in values.items()}
    golden = Golden(
        state_slots=np.zeros((1, 0), np.int64),
        state_numbers=np.array([[1]], np.float32),
        item_slots=np.zeros((1, 0, 0), np.int64),
        item_numbers=np.zeros((1, 0, 0), np.float32),
        outputs=np.array([[math.tanh(0.5), math.tanh(-0.5)]], np.float32),
    )
    write(tmp_path / "p", tensors, golden, loop)
    assert isinstance(read_policy(tmp_path / "p", loop), WeightsPolicy)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "p"
    write(folder)
    content = (folder / name).read_bytes()
    for i in range(0, len(content), 5):
        (folder / name).write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(PolicyFileError, match=name):
            read_policy(folder, LOOP)
    (folder / name).write_bytes(content)
    read_policy(folder, LOOP)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "p"
    write(folder)
    content = (folder / name).read_bytes()
    for cut in (b"", content[:-1], content + b" "):
        (folder / name).write_bytes(cut)
        with pytest.raises(PolicyFileError, match=name):
            read_policy(folder, LOOP)
    (folder / name).unlink()
    with pytest.raises(PolicyFileError, match=f"{name} cannot be read: No such file"):
        read_policy(folder, LOOP)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"nowhere.*No such file"):
        read_policy(tmp_path / "nowhere", LOOP)


def test_a_policy_of_another_loop(tmp_path: Path) -> None:
    write(tmp_path / "p")
    with pytest.raises(PolicyFileError, match=rf"manifest.json.*{LOOP.hash}.*\[state\], \[item\], \[action\]"):
        read_policy(tmp_path / "p", tiny_loop("mlp"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    tensors = tiny_tensors()
    tensors["head.item_tower.out.bias"][1] = value
    write(tmp_path / "p", tensors)
    with pytest.raises(PolicyFileError, match=r"weights.safetensors: tensor head.item_tower.out.bias .* not finite"):
        read_policy(tmp_path / "p", LOOP)


def test_tensors_that_do_not_fit_the_loop(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    del tensors["head.item_tower.out.bias"]
    write(tmp_path / "p", tensors)
    with pytest.raises(PolicyFileError, match=r"weights.safetensors: tensor head.item_tower.out.bias is missing"):
        read_policy(tmp_path / "p", LOOP)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([[7, 1], [3, 1.01]], "misses its golden outputs by up to 0.01"),
        ([[7, 1], [3, math.nan]], "misses its golden outputs"),
        ([[7, 1]], r"are \(1, 2\), the network makes \(2, 2\)"),
    ],
)
def test_wrong_golden_outputs(tmp_path: Path, outputs: list[list[float]], words: str) -> None:
    write(tmp_path / "p", golden=replace(GOLDEN, outputs=np.array(outputs, np.float32)))
    with pytest.raises(PolicyFileError, match=f"golden.safetensors: .*{words}"):
        read_policy(tmp_path / "p", LOOP)


def test_golden_outputs_may_differ_by_rounding(tmp_path: Path) -> None:
    write(tmp_path / "p", golden=replace(GOLDEN, outputs=GOLDEN.outputs * np.float32(1 + 5e-5)))
    read_policy(tmp_path / "p", LOOP)


def test_golden_inputs_that_do_not_fit_the_loop(tmp_path: Path) -> None:
    write(tmp_path / "p", golden=replace(GOLDEN, state_numbers=np.zeros((2, 3), np.float32)))
    with pytest.raises(PolicyFileError, match=r"golden.safetensors"):
        read_policy(tmp_path / "p", LOOP)


def test_no_golden_inputs_prove_nothing(tmp_path: Path) -> None:
    none = Golden(**{field.name: getattr(GOLDEN, field.name)[:0] for field in fields(GOLDEN)})
    write(tmp_path / "p", golden=none)
    with pytest.raises(PolicyFileError, match=r"golden.safetensors"):
        read_policy(tmp_path / "p", LOOP)


@pytest.mark.parametrize("name", FILES[:2])
def test_a_signed_file_of_another_format(tmp_path: Path, name: str) -> None:
    write(tmp_path / "p")
    sign(tmp_path / "p")
    read_policy(tmp_path / "p", LOOP)  # the signature is good
    (tmp_path / "p" / name).write_bytes(b"no tensors")
    sign(tmp_path / "p")
    with pytest.raises(PolicyFileError, match=f"{name} is not a safetensors file"):
        read_policy(tmp_path / "p", LOOP)


def test_a_golden_file_that_lacks_a_part(tmp_path: Path) -> None:
    write(tmp_path / "p")
    (tmp_path / "p" / FILES[1]).write_bytes((tmp_path / "p" / FILES[0]).read_bytes())
    sign(tmp_path / "p")
    with pytest.raises(PolicyFileError, match=r"golden.safetensors"):
        read_policy(tmp_path / "p", LOOP)


def test_metrics_that_json_cannot_hold_are_left_out(tmp_path: Path) -> None:
    manifest = write(tmp_path / "p", metrics={"loss": math.nan, "reward": 1.0, "norm": math.inf})
    assert manifest.metrics == {"reward": 1.0}


def test_what_a_writer_that_died_left_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "000002"
    write(folder, metrics={"loss": 9.0})
    (tmp_path / ".000002.new").mkdir()
    (tmp_path / ".000002.new" / "weights.safetensors").write_bytes(b"half")
    write(folder)
    assert read_policy(folder, LOOP).manifest.metrics == {"loss": 0.25}
    assert names_in(tmp_path) == {"000002"}


@pytest.mark.parametrize("failing", range(4))
def test_a_writer_that_fails_leaves_no_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """The disk fails at each of the syncs that come before the name: of three files and their folder."""
    monkeypatch.setattr(os, "fsync", failing_after(failing, os.fsync))
    with pytest.raises(OSError, match="disk"):
        write(tmp_path / "000002")
    assert not (tmp_path / "000002").exists()
    monkeypatch.undo()
    write(tmp_path / "000002")
    read_policy(tmp_path / "000002", LOOP)


def failing_after(calls: int, real: Callable[[int], None]) -> Callable[[int], None]:
    left = iter(range(calls))

    def fsync(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError("the disk is gone")
        real(descriptor)

    return fsync


def test_the_tiny_network_is_the_one_worked_out(tmp_path: Path) -> None:
    assert golden_outputs(SlateNetwork(LOOP, tiny_tensors()), GOLDEN).tolist() == GOLDEN.outputs.tolist()
