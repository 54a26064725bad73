"""`steadyrank study`: lists the studies, or runs one and writes its part of studies/RESULTS.md."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from studies.catalogue import MODULES, find_study
from studies.plots import write_figure
from studies.results_file import replace_section
from studies.runner import Job, Kept, jobs_of, run_jobs
from studies.study import Report, Study

FOLDER = Path("studies")
"""In the current folder: that of a checkout, or one of the user's own."""
_HEAD = "# Results\n\nWhat was measured about learning, each by a command.\n"


@dataclass(frozen=True, slots=True)
class StudyOptions:
    num_seeds: int | None
    """None: as many as the study wants."""
    quick: bool
    num_workers: int
    kept: Path | None
    """Where finished runs are kept; None: studies/runs."""
    kept_only: bool = False
    """Tell of those, and run nothing."""


class NothingKeptError(Exception):
    """Of some cell no run is kept, and none was to be run."""


def list_studies(show: Callable[[str], None]) -> None:
    for name in MODULES:
        show(f"{name:28} {find_study(name).question}")


def run_study(name: str, options: StudyOptions, show: Callable[[str], None]) -> None:
    """Raises KeyError: there is no such study; NothingKeptError."""
    study = find_study(name)
    if options.quick:
        jobs = jobs_of(study, 1, study.quick_decisions)
        show(study.report(run_jobs(study, jobs, Kept(name, None), options.num_workers, show)).text)
        return
    num_seeds = options.num_seeds or study.num_seeds
    kept = Kept(name, options.kept or FOLDER / "runs" / f"{name}.jsonl")
    jobs = jobs_of(study, num_seeds, study.num_decisions)
    if options.kept_only:
        jobs = _kept_of(study, jobs, kept)
    report = study.report(run_jobs(study, jobs, kept, options.num_workers, show))
    commits = sorted({kept.commit(job) for job in jobs})
    told = " --kept-only" if options.kept_only else ""
    _write(study, report, _provenance(study, f"{num_seeds}{told}", jobs, commits))
    show(report.text)


def _kept_of(study: Study, jobs: list[Job], kept: Kept) -> list[Job]:
    found = [job for job in jobs if job in kept]
    missing = [cell.name for cell in study.cells if cell.name not in {job.cell.name for job in found}]
    if missing:
        raise NothingKeptError(f"{study.name}: no run is kept of {', '.join(missing)}; leave out --kept-only")
    return found


def _provenance(study: Study, seeds: str, jobs: list[Job], commits: list[str]) -> str:
    numbers = [job.seed for job in jobs]
    length = f"{study.num_decisions:,} decisions each"
    command = f"steadyrank study {study.name} --seeds {seeds}"
    return f"`{command}` at {', '.join(commits)}: seeds {min(numbers)} to {max(numbers)}, {length}."


def _write(study: Study, report: Report, provenance: str) -> None:
    links = [write_figure(figure, FOLDER / "figures", study.name + end) for end, figure in report.figures.items()]
    section = "\n\n".join([study.question, provenance, report.text, *links])
    results = FOLDER / "RESULTS.md"
    before = results.read_text() if results.exists() else _HEAD
    results.write_text(replace_section(before, study.title, section))
