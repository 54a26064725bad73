"""What there is of the comparison with other model servers without them."""

import json
import random
import sys
from pathlib import Path

import pytest
import torch

import bench.__main__
from bench import peers
from bench.peer_servers import SETTING
from bench.peer_table import CONNECTIONS, PLAIN, RANKER, Compared, rows
from bench.peers import PEERS, check, installed
from bench.rankers import ROOT, Workload
from bench.serving import BadAnswersError, Round
from bench.tables import Section
from bench.torch_slates import Answers, Slates, TorchPolicy
from bench.wrk import Load


def test_every_peer_has_a_server_and_is_started_with_what_it_needs() -> None:
    for peer in PEERS:
        assert (ROOT / "bench" / "peer_servers" / f"{peer.server}.py").is_file()
    lit = next(peer for peer in PEERS if peer.server == "lit")
    assert lit.command("/a/bin/python", Path("/f")) == [
        *("env", "--chdir=/f", f"PYTHONPATH={ROOT}", "OMP_NUM_THREADS=1"),
        *("/a/bin/python", "-m", "bench.peer_servers.lit", "PORT", "/f", str(lit.batch)),
    ]
    assert lit.bodies == Workload().bodies()
    bento = next(peer for peer in PEERS if peer.server == "bento")
    assert json.loads(bento.bodies[0]) == {"questions": [json.loads(lit.bodies[0])]}


def test_what_an_interpreter_lacks_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = peers.Peer("pytest", "pytest", "none")
    monkeypatch.setattr(peers, "PEERS", (found, peers.Peer("none", "no-such-package-at-all", "none")))
    assert installed([sys.executable]) == [peers.Installed(found, sys.executable, pytest.__version__)]


@pytest.mark.parametrize("value", ["", "/a/bin/python"])
def test_without_the_setting_the_section_says_how_and_the_page_leaves_it_out(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SETTING, value)
    monkeypatch.setattr(bench.__main__, "measured_apart", lambda name, quick: Section(f"## {name} {quick}"))
    assert bench.__main__.main(["--quick"]) == 0
    assert ("## peers" in capsys.readouterr().out) == bool(value)
    if not value:
        assert "`STEADYRANK_BENCH_PEERS` names no Python interpreter" in peers.report(quick=True)


def test_ratios_are_the_medians_of_those_of_the_rounds() -> None:
    def measured(*of: tuple[int, float]) -> list[Round]:
        return [Round(Load(num, 2.0, 0, 0.001, 0.002), 1e-6 * num * cpu_us) for num, cpu_us in of]

    three = {
        RANKER: measured((800, 100), (1_000, 100), (2_000, 100)),
        PLAIN: measured((400, 150), (400, 250), (400, 200)),
        "it": measured((400, 300), (200, 200), (500, 500)),
    }
    text = rows([Compared("it", {(title, c): three[title] for title in three for c in CONNECTIONS})])
    # 800/400, 1,000/200, 2,000/500; 3, 2, 5; 1, 2, 0.8; 300/150, 200/250, 500/200
    assert text.splitlines()[-2] == "| it | 16 | 200 | 300 | 1.00 | 2.00 | 4.00 | 3.00 | 1.00 | 2.00 |"
    assert [line.split(" | ")[:4] for line in text.splitlines()[2:4]] == [
        ["| steadyrank", "16", "500", "100"],
        ["| steadyrank", "64", "500", "100"],
    ]


def test_an_answer_that_is_no_slate_of_its_request_is_refused() -> None:
    body = json.dumps({"candidates": [f"i{n}" for n in range(20)]}).encode()

    def reply(*numbers: int, propensity: float = 0.1) -> bytes:
        return json.dumps({"items": [{"item_id": f"i{n}", "propensity": propensity} for n in numbers]}).encode()

    check(reply(*range(5, 15)), body)
    check(b"[" + reply(*range(5, 15)) + b"]", body)
    for bad in (reply(*range(9)), reply(*range(9), 8), reply(*range(15, 25)), reply(*range(10), propensity=0)):
        with pytest.raises(BadAnswersError):
            check(bad, body)


def test_slates_of_several_requests_are_drawn_as_those_of_one(tmp_path: Path) -> None:
    """Propensities are those of the slate drawn, and the first item is drawn by them."""
    torch.manual_seed(0)
    policy = TorchPolicy(
        "v1",
        [f"i{n}" for n in range(6)],
        torch.randn(6, 3),
        torch.randn(6),
        [(torch.randn(4, 2), torch.randn(4)), (torch.randn(3, 4), torch.randn(3))],
        *(2, 2.0, 0.3),
    )
    policy.write(tmp_path)
    answers, slates = Answers(tmp_path), Slates(policy)
    candidates = ["i4", "i1", "i0", "i5"]
    question = {"context": {"user": [0.5, -1.0]}, "candidates": candidates}
    others = {"context": {"user": [1.0, 1.0]}, "candidates": ["i1", "i2", "i3", "i4"]}
    together = [answers.answers([question, others])[0]["items"] for _ in range(500)]
    first = random.Random(0).choice(together)
    known = {
        (a[0][0], a[1][0]): [each[2] for each in a] for a in (slates.slate([0.5, -1.0], candidates) for _ in range(500))
    }
    assert [i["propensity"] for i in first] == pytest.approx(known[first[0]["item_id"], first[1]["item_id"]], rel=1e-6)
    several = slates.slates([[0.5, -1.0]] * 4_000, [candidates] * 4_000)
    chances = {pair: propensities[0] * propensities[1] for pair, propensities in known.items()}
    assert sum(chances.values()) == pytest.approx(1, abs=1e-6)  # all pairs were drawn
    drawn = [(a[0][0], a[1][0]) for a in several]
    for pair, chance in chances.items():
        assert drawn.count(pair) / 4_000 == pytest.approx(chance, abs=0.03)  # 4 sd of a share of .46
    assert 1 / 12 + 0.06 < max(chances.values()) < 0.47  # draws that ignored the scores would not pass
