"""What the processes of the load write down, and what the harness makes of it while they write."""

from pathlib import Path

import msgspec
import pytest

from loadtest.chaos.ledger import Acknowledged, Answered, Asked, ContradictionError, Ledger, LedgerWriter, Tally
from schemas.messages import FeedbackEvent

EVENT = Acknowledged("e1", "d1", "a", "click", 1.0, 100.25, "http")


def test_it_reads_along_and_an_event_counts_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "one", tmp_path / "two")
    with LedgerWriter(tmp_path / "one") as one, LedgerWriter(tmp_path / "two") as two:
        one.add(Asked("d1", ("a",)), Answered("d1", ("a", "b"), 100.0, 1), EVENT)
        ledger.refresh()
        assert (ledger.events, ledger.answered) == ({"e1": EVENT}, {"d1": Answered("d1", ("a", "b"), 100.0, 1)})
        two.add(msgspec.structs.replace(EVENT, how="producer"), Tally({"x": 1}))
        one.add(Tally({"x": 2}))
        ledger.refresh()
    assert (len(ledger.events), ledger.num_repeats, ledger.counts["x"], ledger.num_ended) == (1, 1, 3, 2)
    assert ledger.events["e1"].how == "http"
    ledger.close()


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with LedgerWriter(path) as writer:
        writer.add(EVENT)
    line = path.read_bytes()
    ledger = Ledger(tmp_path / "new")
    with (tmp_path / "new").open("ab", buffering=0) as file:
        file.write(line[:20])
        ledger.refresh()
        assert ledger.events == {}
        file.write(line[20:])
        ledger.refresh()
    assert ledger.events == {"e1": EVENT}
    ledger.close()


def test_who_is_told_two_things_of_one_event_cannot_be_trusted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    with LedgerWriter(tmp_path / "ledger") as writer:
        writer.add(EVENT, Acknowledged("e1", "d1", "a", "click", 1.0, 100.5, "http"))
    with pytest.raises(ContradictionError):
        ledger.refresh()
    ledger.close()


def test_an_event_gets_the_defaults_that_its_reader_fills_in() -> None:
    assert Acknowledged.of(FeedbackEvent("d1", "click"), "e1", 1.0, "http").value == 1.0
    assert Acknowledged.of(FeedbackEvent("d1", "click", value=0.0), "e1", 1.0, "http").value == 0.0
