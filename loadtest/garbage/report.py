"""What a run found, for people."""

from collections.abc import Iterator

from loadtest.garbage.audit import Findings


def report(findings: Findings) -> Iterator[str]:
    yield f"{'what':28} {'dead letters':>14}  reason"
    for (kind, reason), num in sorted(findings.reasons.items()):
        yield f"{kind:28} {num:>14,}  {reason}"
    seconds, rate = findings.ingest_seconds, findings.num_records / findings.ingest_seconds
    yield ""
    yield f"{findings.num_records:,} records, {findings.num_bytes / 1e6:,.0f} MB, written and read in {seconds:.0f} s"
    yield f"  ({rate:,.0f} a second)"
    yield f"good: {findings.num_events:,} events and {findings.num_decisions:,} decisions"
    yield f"bad: {findings.num_letters:,} elements"
    for name in ("lost", "repeated", "changed", "unaccounted", "wrong_letters", "troubles"):
        found = getattr(findings, name)
        yield f"{name.replace('_', ' ')}: {len(found):,}{f', as {found[:3]}' if found else ''}"
