"""A study goes on where it was, whatever cut it short."""

import json
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest

from studies.catalogue import MODULES, find_study
from studies.command import NothingKeptError, StudyOptions, list_studies, run_study
from studies.results_file import replace_section
from studies.runner import Job, Kept, jobs_of, run_jobs
from studies.study import Cell, Report, Result, Results, Study

CALLS = Path("calls")


def run_and_tell(cell: Cell, seed: int, num_decisions: int) -> Result:
    """Leaves a trace in the current folder, which processes share."""
    with CALLS.open("a") as file:
        file.write(f"{cell.name} {seed}\n")
    return {"value": cell.settings["x"] * seed + num_decisions}


def run_or_die(cell: Cell, seed: int, num_decisions: int) -> Result:
    if (cell.name, seed) == ("b", 10):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_and_tell(cell, seed, num_decisions)


def told(results: Results) -> Report:
    return Report(json.dumps({name: [run["value"] for run in of_seeds] for name, of_seeds in results.items()}))


STUDY = Study(
    name="toy",
    title="Toy",
    question="Does it run?",
    cells=[Cell("a", {"x": 1}), Cell("b", {"x": 2})],
    run=run_and_tell,
    report=told,
    first_seed=10,
    num_decisions=100,
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calls() -> list[str]:
    return sorted(CALLS.read_text().splitlines()) if CALLS.exists() else []


@pytest.mark.slow
def test_processes_share_the_work(folder: Path) -> None:
    results = run_jobs(STUDY, jobs_of(STUDY, 3, 100), Kept("toy", folder / "runs.jsonl"), 2, print)
    assert results == {"a": [{"value": n} for n in (110, 111, 112)], "b": [{"value": n} for n in (120, 122, 124)]}
    assert len(calls()) == 6


def test_a_cell_may_want_fewer_seeds() -> None:
    study = replace(STUDY, cells=[STUDY.cells[0], Cell("b", {"x": 2}, max_seeds=1)])
    assert [(job.cell.name, job.seed) for job in jobs_of(study, 2, 100)] == [("a", 10), ("b", 10), ("a", 11)]


def test_cells_take_turns_seed_by_seed() -> None:
    assert [(job.cell.name, job.seed) for job in jobs_of(STUDY, 2, 100)] == [("a", 10), ("b", 10), ("a", 11), ("b", 11)]


def test_what_is_kept_is_not_run_again(folder: Path) -> None:
    shown: list[str] = []
    kept = folder / "runs" / "toy.jsonl"
    run_jobs(STUDY, jobs_of(STUDY, 1, 100), Kept("toy", kept), 1, shown.append)
    kept.write_text(kept.read_text() + '\n{"key": "cut sho')  # as a kill leaves it
    results = run_jobs(STUDY, jobs_of(STUDY, 2, 100), Kept("toy", kept), 1, shown.append)
    assert results == {"a": [{"value": 110}, {"value": 111}], "b": [{"value": 120}, {"value": 122}]}
    assert calls() == ["a 10", "a 11", "b 10", "b 11"]
    assert shown == ["toy: 0 of 2 runs are kept, 2 to do", "toy: 2 of 4 runs are kept, 2 to do"]
    assert all(job in Kept("toy", kept) for job in jobs_of(STUDY, 2, 100)), "what came after the torn line is read too"


def test_cells_of_the_same_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="toy: two cells have the same settings"):
        jobs_of(replace(STUDY, cells=[Cell("a", {"x": 1}), Cell("b", {"x": 1})]), 1, 100)


@pytest.mark.parametrize("name", MODULES)
def test_the_cells_of_every_study_differ_in_their_settings(name: str) -> None:
    study = find_study(name)
    assert len(jobs_of(study, 1, 100)) == len(study.cells)


def test_two_studies_may_share_a_file(folder: Path) -> None:
    kept = folder / "runs.jsonl"
    run_jobs(STUDY, jobs_of(STUDY, 1, 100), Kept("toy", kept), 1, print)
    assert all(job not in Kept("other", kept) for job in jobs_of(STUDY, 1, 100))


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_study_with_what_it_has(folder: Path) -> None:
    kept = folder / "runs.jsonl"
    study = replace(STUDY, run=run_or_die)
    with pytest.raises(BrokenProcessPool):
        run_jobs(study, jobs_of(study, 2, 100), Kept("toy", kept), 2, print)
    assert sum(job in Kept("toy", kept) for job in jobs_of(study, 2, 100)) < 4


def test_a_run_is_known_by_what_alters_it() -> None:
    job = Job(Cell("a", {"x": 1, "y": [2]}), 1, 100)
    assert job.key == Job(Cell("another name", {"y": [2], "x": 1}), 1, 100).key
    others = [Job(Cell("a", {"x": 2, "y": [2]}), 1, 100), Job(job.cell, 2, 100), Job(job.cell, 1, 101)]
    assert job.key not in {other.key for other in others}


def test_the_command_writes_its_part_of_the_results(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.command.find_study", lambda _: STUDY)
    shown: list[str] = []
    run_study("toy", StudyOptions(2, quick=False, num_workers=1, kept=None), shown.append)
    written = (folder / "studies" / "RESULTS.md").read_text()
    assert "## Toy\n\nDoes it run?\n\n`steadyrank study toy --seeds 2` at " in written
    assert '{"a": [110, 111], "b": [120, 122]}' in written
    assert (folder / "studies" / "runs" / "toy.jsonl").exists()


def test_what_is_kept_can_be_told_without_running_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.command.find_study", lambda _: STUDY)
    told_only = StudyOptions(2, quick=False, num_workers=1, kept=None, kept_only=True)
    with pytest.raises(NothingKeptError, match="no run is kept of a, b"):
        run_study("toy", told_only, print)
    run_study("toy", StudyOptions(1, quick=False, num_workers=1, kept=None), print)
    run_study("toy", told_only, print)
    written = (folder / "studies" / "RESULTS.md").read_text()
    assert "`steadyrank study toy --seeds 2 --kept-only` at " in written
    assert '{"a": [110], "b": [120]}' in written


def test_quick_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.command.find_study", lambda _: STUDY)
    run_study("toy", StudyOptions(None, quick=True, num_workers=1, kept=None), print)
    assert not (folder / "studies").exists()


def test_every_study_is_listed_with_its_question() -> None:
    shown: list[str] = []
    list_studies(shown.append)
    assert any(line.startswith("ablation ") and line.endswith("?") for line in shown)


def test_a_section_of_the_results_is_replaced_alone() -> None:
    text = "# Results\n\nWords.\n\n## A\n\nold\n\n## B\n\nkept\n"
    assert replace_section(text, "A", "new") == "# Results\n\nWords.\n\n## A\n\nnew\n\n## B\n\nkept\n"
    assert replace_section(text, "C", "added").endswith("## B\n\nkept\n\n## C\n\nadded\n")
