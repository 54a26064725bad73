"""A run's figures in words: the table of thresholds, for a terminal and for locust's HTML report."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from loadtest.load.thresholds import Figures, Verdict

_COLUMNS = ("threshold", "bound", "measured", "")
_STYLE = "font-family: sans-serif; margin: 2em; color: #111; background: #fff; padding: 1em"


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Lines."""
    rows = [_COLUMNS, *(_cells(verdict) for verdict in verdicts)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:3], widths[1:]), row[3]]).rstrip() for row in rows
    ]


def summary(figures: Figures) -> Iterator[str]:
    """What else is worth telling."""
    yield f"{figures['requests']['num']:,} requests in {figures['seconds']:.0f} s"
    learning, feedback = figures.get("learning"), figures.get("feedback")
    if learning is not None and learning["reward"] is not None:
        yield f"reward a decision: {learning['reward']:.3f} at the end, {learning['random']:.3f} of the random policy"
    if feedback is not None:
        yield f"feedback events: {feedback['acknowledged']:,} acknowledged, {feedback['stored']:,} stored"


def put_into_html(path: Path, verdicts: Sequence[Verdict], lines: Sequence[str]) -> None:
    """Above locust's charts, in the file that it wrote."""
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(verdict))}</tr>" for verdict in verdicts
    )
    head = "".join(f"<th align='left'>{name}</th>" for name in _COLUMNS)
    words = "<br>".join(escape(line) for line in lines)
    section = f"<section style='{_STYLE}'><h1>Load test</h1><p>{words}</p>"
    section += f"<table cellpadding='4'><tr>{head}</tr>{rows}</table></section>"
    before, body, after = path.read_text().partition("<body>")
    path.write_text(before + body + section + after)


def _cells(verdict: Verdict) -> tuple[str, str, str, str]:
    measured = "–" if verdict.measured is None else f"{verdict.measured:.4g}"
    return verdict.name, verdict.bound, measured, verdict.word + (f" ({verdict.note})" if verdict.note else "")
