"""The table of `bench.peers`."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.serving import Round
from bench.tables import table

CONNECTIONS = (16, 64)
RANKER, PLAIN = "steadyrank", "FastAPI + torch"


@dataclass(frozen=True, slots=True)
class Compared:
    """Rounds of a peer, and those of the ranker and of FastAPI + torch in turn with them, by connections."""

    title: str
    rounds: Mapping[tuple[str, int], Sequence[Round]]


def rows(compared: Sequence[Compared]) -> str:
    """In markdown, by peer and connections; the ranker and FastAPI + torch first, over the rounds with all peers."""
    together: dict[tuple[str, int], list[Round]] = defaultdict(list)
    for each in compared:
        for key, rounds in each.rounds.items():
            together[key] += rounds
    header = ("", "connections", "requests/s", "CPU µs a request", "p50 ms", "p99 ms")
    ratios = tuple(f"{title} ÷ it{by}" for title in (RANKER, PLAIN) for by in ("", ", by CPU"))
    ours = [(*_figures(title, c, together[title, c]), "", "", "", "") for title in (RANKER, PLAIN) for c in CONNECTIONS]
    theirs = [_row(each, connections) for each in compared for connections in CONNECTIONS]
    return table((*header, *ratios), [*(ours if compared else []), *theirs])


def _row(each: Compared, connections: int) -> Sequence[str]:
    mine = each.rounds[each.title, connections]
    beside = [each.rounds[title, connections] for title in (RANKER, PLAIN)]
    ratios = [ratio for other in beside for ratio in (_ratio(other, mine, _rate), _ratio(mine, other, _cpu))]
    return (*_figures(each.title, connections, mine), *(f"{ratio:.2f}" for ratio in ratios))


def _figures(title: str, connections: int, rounds: Sequence[Round]) -> Sequence[str]:
    return (
        title,
        str(connections),
        f"{median(map(_rate, rounds)):,.0f}",
        f"{median(map(_cpu, rounds)):,.0f}",
        f"{1e3 * median(each.load.p50 for each in rounds):.2f}",
        f"{1e3 * median(each.load.p99 for each in rounds):.2f}",
    )


def _ratio(above: Sequence[Round], below: Sequence[Round], figure: Callable[[Round], float]) -> float:
    """The median of those of each round."""
    return float(median(figure(a) / figure(b) for a, b in zip(above, below, strict=True)))


def _rate(each: Round) -> float:
    return each.load.a_second


def _cpu(each: Round) -> float:
    return each.cpu_us
