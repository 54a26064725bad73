"""`steadyrank study`: lists the studies, or runs one and writes its part of studies/RESULTS.md."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from studies.catalogue import MODULES, find_study
from studies.plots import write_figure
from studies.results_file import replace_section
from studies.runner import Kept, jobs_of, run_jobs
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


def list_studies(show: Callable[[str], None]) -> None:
    for name in MODULES:
        show(f"{name:28} {find_study(name).question}")


def run_study(name: str, options: StudyOptions, show: Callable[[str], None]) -> None:
    """Raises KeyError: there is no such study."""
    study = find_study(name)
    if options.quick:
        jobs = jobs_of(study, 1, study.quick_decisions)
        show(study.report(run_jobs(study, jobs, Kept(name, None), options.num_workers, show)).text)
        return
    num_seeds = options.num_seeds or study.num_seeds
    kept = Kept(name, options.kept or FOLDER / "runs" / f"{name}.jsonl")
    jobs = jobs_of(study, num_seeds, study.num_decisions)
    report = study.report(run_jobs(study, jobs, kept, options.num_workers, show))
    commits = sorted({kept.commit(job) for job in jobs})
    _write(study, report, _provenance(study, num_seeds, commits))
    show(report.text)


def _provenance(study: Study, num_seeds: int, commits: list[str]) -> str:
    seeds = f"seeds {study.first_seed} to {study.first_seed + num_seeds - 1}"
    length = f"{study.num_decisions:,} decisions each"
    return f"`steadyrank study {study.name} --seeds {num_seeds}` at {', '.join(commits)}: {seeds}, {length}."


def _write(study: Study, report: Report, provenance: str) -> None:
    links = [write_figure(figure, FOLDER / "figures", study.name + end) for end, figure in report.figures.items()]
    section = "\n\n".join([study.question, provenance, report.text, *links])
    results = FOLDER / "RESULTS.md"
    before = results.read_text() if results.exists() else _HEAD
    results.write_text(replace_section(before, study.title, section))
