"""What the learner's benchmark times is what the learner does."""

import re
from pathlib import Path

import pytest

from bench import learner
from bench.learner_steps import FilledReplay, OurStep
from schemas.loop_file import read_loop

SIMULATORS = Path(__file__).parents[3] / "simulators"


@pytest.mark.parametrize("name", ["virtualtb.toml", "shop.toml"])
def test_a_filled_buffer_has_sessions_to_learn_from(name: str) -> None:
    loop = read_loop(SIMULATORS / name)
    filled = FilledReplay(loop, 3_000)
    filled.fill(2_000)
    batch = filled.replay.sample(256)
    assert batch is not None
    assert len(filled.replay) == 2_000
    assert filled.replay.num_ready > 1_800
    assert 0 < int(batch.terminated.sum()) < 100
    OurStep(loop, filled.replay)()


def test_the_table_has_a_rate_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "_NUM_PEERS", 200)
    monkeypatch.setattr(learner, "_WARM_UPS", 0)
    monkeypatch.setattr(learner, "_interleaved", lambda steps, **_: dict.fromkeys(steps, 0.002))
    monkeypatch.setattr(learner, "find_spec", lambda _: None)
    lines, _ = learner._updates(quick=True)
    assert re.fullmatch(r"\| ddpg \| raw \| 500 \| not installed \|  \|", lines[2])
    assert len(lines) == 2 + 6 + 2
