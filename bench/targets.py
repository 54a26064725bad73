"""What the project wants of itself: the figures that decide whether a run of the benchmark was good enough."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.tables import section, table


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, by the key under which a benchmark gives it, and its bounds."""

    key: str
    """That of `Section.figures`."""
    title: str
    must: float
    good: float
    is_ceiling: bool = False
    """Whether less is better."""
    digits: int = 2

    def verdict(self, figure: float) -> str:
        if self._reaches(figure, self.good):
            return "met, good"
        return "met" if self._reaches(figure, self.must) else "**missed**"

    def _reaches(self, figure: float, bound: float) -> bool:
        return figure <= bound if self.is_ceiling else figure >= bound

    def written(self, figure: float) -> str:
        return f"{figure:,.{self.digits}f}"

    def wanted(self, bound: float) -> str:
        return f"{'≤' if self.is_ceiling else '≥'} {self.written(bound)}"


TARGETS = (
    Target("share", "`/recommend`, 100 candidates, 16 connections ÷ bare ASGI", 0.40, 0.50),
    Target("torch", "the same ÷ FastAPI + torch on the same work", 3.5, 4),
    Target("gorse", "the same share ÷ Gorse's (.017, external)", 20, 25, digits=1),
    Target("gorse p99", "the same p99 ÷ Gorse's (28 ms, external)", 0.2, 0.1, is_ceiling=True),
    Target("beside the learner", "p99 at half load, learner beside it ÷ without", 2, 1.3, is_ceiling=True),
    Target("million", "1M items: p50 of the CPU time, ms", 1, 0.3, is_ceiling=True),
    Target("recall", "1M items: recall@10", 0.98, 0.98, digits=3),
    Target("feedback", "`/feedback` single ÷ validate only", 0.80, 0.90),
    Target("events", "batched feedback accepted, durable, events/s", 200_000, 300_000, digits=0),
    Target("memory", "ranker process, 1k items, PSS MB", 60, 45, is_ceiling=True, digits=0),
    Target("cold start", "start to the first answer, s", 1.5, 1, is_ceiling=True),
    Target("swaps failed", "100 swaps under load: failed requests", 0, 0, is_ceiling=True, digits=0),
    Target(
        "swaps stall",
        "100 swaps under load: longest stall (not the machine's), ms",
        5,
        2,
        is_ceiling=True,
        digits=1,
    ),
    Target("swaps memory", "memory peak of a swap ÷ one policy", 2, 2, is_ceiling=True),
    Target("overload", "latency of what is accepted, twice the capacity offered ÷ at it", 2, 2, is_ceiling=True),
    Target("updates", "the learner's updates/s with srs2 ÷ the same over TorchRL", 1.5, 1.5),
    Target("buffer", "a buffer of 5M transitions, GB", 4, 4, is_ceiling=True, digits=1),
)


def targets_section(figures: Mapping[str, float]) -> str:
    """All targets, in markdown; those whose figure is not there say so."""
    header = ("", "measured", "must", "good", "verdict")
    return section("Targets", table(header, _rows(figures)))


def _rows(figures: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    for target in TARGETS:
        figure = figures.get(target.key)
        measured, verdict = ("", "no figure") if figure is None else (target.written(figure), target.verdict(figure))
        yield (target.title, measured, target.wanted(target.must), target.wanted(target.good), verdict)
