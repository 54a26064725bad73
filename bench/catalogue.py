"""`python -m bench.catalogue`: what ranking the whole catalogue costs, by its size."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import msgspec
import numpy as np

from bench.large import NUM_CLUSTERS, clustered, index_of, policy_of, queries_of, table_of
from bench.rankers import Workload, policy_tensors
from bench.tables import Section, print_report, section, table
from policies.index import INDEX_THRESHOLD, NUM_BEST, ItemIndex
from policies.networks import Floats
from policies.policy import SlatePolicy
from schemas.messages import RecommendRequest
from service.catalogue import ItemTable, ItemTables
from service.indexed import IndexedVectors
from service.problems import decode
from service.ranking import Ranker, Serving

_NUM_REQUESTS = 300
_NUM_QUERIES = 256
_ABOUT = """
CPU time of one request that names no candidates: JSON decoded, ranked, answer and decision encoded; in this process,
the median of {requests} requests in {rounds} rounds, cases interleaved. Loop, network and contexts are those of the
other sections (vectors of 16 numbers); an index from {threshold:,} items on. "Clusters": embeddings of items lie around
{clusters} centres, as those of a trained policy do; "noise": they are Gaussian, the worst case, where an index is of
little use. "All scored" is the same policy without an index: a softmax over all of the catalogue. Recall@10 counts, of
the ten best items of {queries} other states than those that the index was set by, those that are on the shortlist.
""".strip()
_DECODER = msgspec.json.Decoder(RecommendRequest)
_ENCODE = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Case:
    """A ranker over a catalogue, and what its requests took."""

    size: int
    name: str
    ranker: Ranker
    recall: float
    build_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)


def report(*, quick: bool) -> str:
    """One section of markdown."""
    return measure(quick=quick).text


def measure(*, quick: bool) -> Section:
    """The section, and the figures of its targets."""
    sizes = (1_000, 30_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    num_rounds = 2 if quick else 6
    cases = [case for size in sizes for case in _cases(Workload(num_items=size, num_candidates=None))]
    bodies = Workload(num_candidates=None).bodies(_NUM_REQUESTS)
    for number in range(num_rounds):
        for case in cases:
            _ask(case, bodies[number::num_rounds])
    header = ("items, vectors", "CPU µs, p50", "p99", "recall@10", "index made in s")
    about = _ABOUT.format(
        requests=_NUM_REQUESTS,
        rounds=num_rounds,
        threshold=INDEX_THRESHOLD,
        clusters=NUM_CLUSTERS,
        queries=_NUM_QUERIES,
    )
    return Section(section("The whole catalogue", table(header, map(_row, cases)), about), _figures(cases[-4]))


def _figures(case: Case) -> dict[str, float]:
    if case.size != 1_000_000:
        return {}
    return {"million": median(case.seconds) * 1e3, "recall": case.recall}


def _row(case: Case) -> tuple[str, ...]:
    micros = np.array(case.seconds) * 1e6
    build = f"{case.build_seconds:.2f}" if case.build_seconds else ""
    p50, p99 = np.percentile(micros, 50), np.percentile(micros, 99)
    return f"{case.size:,}, {case.name}", f"{p50:,.0f}", f"{p99:,.0f}", f"{case.recall:.3f}", build


def _cases(workload: Workload) -> Iterator[Case]:
    items, untrained = table_of(workload), policy_tensors(workload.loop)
    for name, tensors in (("clusters", clustered(untrained)), ("noise", untrained)):
        policy = policy_of(workload, tensors)
        if workload.num_items >= INDEX_THRESHOLD:
            yield _with_index(f"{name}, index", workload, policy, items)
        scored = ItemTables(workload.loop).seen_by(items, policy)
        yield Case(workload.num_items, f"{name}, all scored", _ranker(workload, policy, scored), 1.0)


def _with_index(name: str, workload: Workload, policy: SlatePolicy, items: ItemTable) -> Case:
    started = time.process_time()
    index = ItemIndex(index_of(policy, items, queries_of(workload, policy, _NUM_QUERIES)))
    seconds = time.process_time() - started
    policy = replace(policy, index=index)
    seen = ItemTables(workload.loop).seen_by(items, policy)
    others = queries_of(workload, policy, _NUM_QUERIES, first=2_000)
    return Case(workload.num_items, name, _ranker(workload, policy, seen), _recall(seen, others), seconds)


def _ranker(workload: Workload, policy: SlatePolicy, seen: ItemTable) -> Ranker:
    serving = Serving(policy, seen, "")
    return Ranker(workload.loop, lambda: serving, time.time, lambda: f"d{time.perf_counter_ns()}")


def _recall(seen: ItemTable, queries: Floats) -> float:
    vectors = seen.vectors
    assert isinstance(vectors, IndexedVectors)
    found = 0
    for query in queries:
        scores = vectors.index.vectors @ query + vectors.index.biases
        worst = np.partition(scores, -NUM_BEST)[-NUM_BEST]
        listed = vectors.shortlist(query, np.empty(0, np.intp)).scores
        found += min(NUM_BEST, int((listed >= worst - 1e-6).sum()))
    return found / NUM_BEST / len(queries)


def _ask(case: Case, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        started = time.process_time()
        ranked = case.ranker.rank(decode(_DECODER, body))
        _ENCODE(ranked.answer)
        _ENCODE(ranked.decision)
        case.seconds.append(time.process_time() - started)
        assert ranked.answer.mode != "fallback", ranked.answer.reason


if __name__ == "__main__":
    print_report(report, __doc__)
