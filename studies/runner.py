"""Runs a study: cells and seeds over processes. A finished run is kept at once: a study goes on where it was."""

import hashlib
import json
import multiprocessing
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
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
    """Finished runs of one study in a file of one JSON object a line; without a file they are kept for now only."""

    def __init__(self, study: str, path: Path | None) -> None:
        self._study, self._path = study, path
        rows = _rows(path) if path is not None and path.exists() else ()
        self._rows = {row["key"]: row for row in rows if row["study"] == study}

    def __contains__(self, job: Job) -> bool:
        return job.key in self._rows

    def result(self, job: Job) -> Result:
        result: Result = self._rows[job.key]["result"]
        return result

    def commit(self, job: Job) -> str:
        return str(self._rows[job.key]["commit"])

    def put(self, job: Job, result: Result, commit: str) -> None:
        told = {"study": self._study, "cell": job.cell.name, "seed": job.seed}
        row = {"key": job.key, **told, "commit": commit, "result": result}
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
    """Seed by seed, so that a study that is cut short has all cells of the seeds that it has.

    Raises ValueError: two cells have the same settings, by which runs are told apart.
    """
    if len({Job(cell, 0, 0).key for cell in study.cells}) < len(study.cells):
        raise ValueError(f"{study.name}: two cells have the same settings")
    return [
        Job(cell, study.first_seed + i, num_decisions)
        for i in range(num_seeds)
        for cell in study.cells
        if cell.max_seeds is None or i < cell.max_seeds
    ]


def run_jobs(study: Study, jobs: list[Job], kept: Kept, num_workers: int, show: Callable[[str], None]) -> Results:
    """The results of all jobs by cell; those that `kept` has are not run again. `show` takes a line for people.

    Raises:
        BrokenProcessPool: a worker was killed, as the kernel does where memory runs out; what was done is kept.
    """
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
    """In the order in which they are done; one worker is this process."""
    columns = (TextColumn(study.name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    outcomes = _one_by_one if num_workers == 1 else _by_processes
    with Progress(*columns) as progress:
        bar = progress.add_task(study.name, total=len(jobs))
        for outcome in outcomes(study, jobs, num_workers):
            progress.advance(bar)
            yield outcome


def _one_by_one(study: Study, jobs: list[Job], _: int) -> Iterator[tuple[Job, Result]]:
    torch.set_num_threads(1)
    for job in jobs:
        yield job, study.run(job.cell, job.seed, job.num_decisions)


def _by_processes(study: Study, jobs: list[Job], num_workers: int) -> Iterator[tuple[Job, Result]]:
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    pool = ProcessPoolExecutor(num_workers, context, _prepare_worker)
    try:
        running = {pool.submit(study.run, job.cell, job.seed, job.num_decisions): job for job in jobs}
        for done in as_completed(running):
            yield running[done], done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _prepare_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all processes: a worker just ends


def current_commit() -> str:
    """The short hash of this code, with a + where it differs from it; "unknown" outside a checkout."""
    folder = Path(__file__).parents[1]
    try:
        asked = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "-C", str(folder), "diff", "--quiet", "HEAD", "--", "*.py"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + "+" * bool(changed.returncode)
