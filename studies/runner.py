"""Runs a study: cells and seeds over processes. A finished run is kept at once: a study goes on where it was."""

import hashlib
import json
import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from studies.study import Cell, Result, Results, Study


@dataclass(frozen=True, slots=True)
class Job:
    cell: Cell
    seed: int
    num_decisions: int

    @property
    def key(self) -> str:
        """The same for the same settings, seed and length, whatever the cell is called."""
        told = json.dumps([self.cell.settings, self.seed, self.num_decisions], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


class Kept:
    """Finished runs in a file of one JSON object a line; without a file they are kept for this run only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows = {row["key"]: row for row in _rows(path)} if path is not None and path.exists() else {}

    def __contains__(self, job: Job) -> bool:
        return job.key in self._rows

    def result(self, job: Job) -> Result:
        result: Result = self._rows[job.key]["result"]
        return result

    def commit(self, job: Job) -> str:
        return str(self._rows[job.key]["commit"])

    def put(self, job: Job, result: Result, commit: str) -> None:
        row = {"key": job.key, "cell": job.cell.name, "seed": job.seed, "commit": commit, "result": result}
        self._rows[job.key] = row
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write("\n" + json.dumps(row))  # so that it never ends a line that a kill has cut short


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """A line that a kill has cut short is none."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def jobs_of(study: Study, num_seeds: int, num_decisions: int) -> list[Job]:
    """Seed by seed, so that a study that is cut short has all cells of the seeds that it has."""
    return [
        Job(cell, study.first_seed + i, num_decisions)
        for i in range(num_seeds)
        for cell in study.cells
        if cell.max_seeds is None or i < cell.max_seeds
    ]


def run_jobs(study: Study, jobs: list[Job], kept: Kept, num_workers: int, show: Callable[[str], None]) -> Results:
    """The results of all jobs by cell; those that `kept` has are not run again. `show` takes a line for people."""
    left = list({job.key: job for job in jobs if job not in kept}.values())
    show(f"{study.name}: {len(jobs) - len(left)} of {len(jobs)} runs are kept, {len(left)} to do")
    commit = current_commit()  # before it starts: that is the code that runs, whatever is committed meanwhile
    for job, result in _finished(study, left, num_workers):
        kept.put(job, result, commit)
    by_cell: dict[str, list[Result]] = {cell.name: [] for cell in study.cells}
    for job in jobs:
        by_cell[job.cell.name].append(kept.result(job))
    return by_cell


def _finished(study: Study, jobs: list[Job], num_workers: int) -> Iterator[tuple[Job, Result]]:
    if not jobs:
        return
    columns = (TextColumn(study.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task(study.name, total=len(jobs))
        for job, result in _outcomes(partial(_run, study.run), jobs, num_workers):
            progress.advance(bar)
            yield job, result


def _outcomes(
    run: Callable[[Job], tuple[Job, Result]], jobs: list[Job], num_workers: int
) -> Iterator[tuple[Job, Result]]:
    """In the order in which they are done; one worker is this process."""
    if num_workers == 1:
        _one_thread()
        yield from map(run, jobs)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with context.Pool(num_workers, _one_thread) as pool:
        yield from pool.imap_unordered(run, jobs)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _run(run: Callable[[Cell, int, int], Result], job: Job) -> tuple[Job, Result]:
    return job, run(job.cell, job.seed, job.num_decisions)


def current_commit() -> str:
    """The short hash, with a + where files differ from it; "unknown" outside a checkout."""
    try:
        asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
