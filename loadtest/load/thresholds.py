"""What a load test must keep (`thresholds.toml`), and whether it did.

Figures are a tree of the same shape, so a threshold is judged by the figure at its own place.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from schemas.sections import Section

Figures = Mapping[str, Any]

_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]

_AT_LEAST = frozenset(("per_second", "times_random", "policies"))
"""The others are bounds from above."""


class ThresholdsError(ValueError):
    """A file that cannot be used; the text has one line a mistake, which names the key."""


class Rates(Section):
    """Of all requests."""

    failed_share: _Share | None = None
    per_second: _Positive | None = None


class Route(Rates):
    """Of one route."""

    p50_ms: _Positive | None = None
    p95_ms: _Positive | None = None
    p99_ms: _Positive | None = None


class Feedback(Section):
    """Of events, by their ids."""

    lost: int | None = Field(default=None, ge=0)
    unexplained: int | None = Field(default=None, ge=0)


class Learning(Section):
    from_seconds: float = Field(default=0.0, ge=0)
    """Shorter runs are not judged by the others."""
    times_random: _NotNegative | None = None
    policies: int | None = Field(default=None, ge=0)


class Thresholds(Section):
    """A whole file."""

    requests: Rates = Rates()
    routes: dict[str, Route] = Field(default_factory=dict)
    kafka: Route = Route()
    feedback: Feedback = Feedback()
    learning: Learning = Learning()


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one threshold."""

    name: str
    """The key in the file."""
    threshold: float
    measured: float | None
    is_kept: bool | None
    """None: this run cannot tell."""
    note: str = ""
    """Why not."""

    @property
    def word(self) -> str:
        return {True: "ok", False: "BROKEN", None: "–"}[self.is_kept]

    @property
    def bound(self) -> str:
        return f"{'≥' if self.name.rpartition('.')[2] in _AT_LEAST else '≤'} {self.threshold:g}"


def read_thresholds(path: Path) -> Thresholds:
    """Raises `ThresholdsError`, also where the file cannot be read."""
    try:
        return Thresholds.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise ThresholdsError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ThresholdsError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        raise ThresholdsError("\n".join(_mistakes(path, error))) from error


def judge(thresholds: Thresholds, figures: Figures) -> list[Verdict]:
    """One a threshold. A section that the figures lack was not measured; a figure that its section lacks is broken."""
    return [
        *_judge("requests", thresholds.requests, figures.get("requests")),
        *(v for route, of in thresholds.routes.items() for v in _judge(f"routes.{route}", of, _route(figures, route))),
        *_judge("kafka", thresholds.kafka, figures.get("kafka")),
        *_judge("feedback", thresholds.feedback, figures.get("feedback")),
        *_judge("learning", thresholds.learning, figures.get("learning"), _why_not_learning(thresholds, figures)),
    ]


def _route(figures: Figures, route: str) -> Figures:
    """Nobody asked a route: nothing is known of it, and that is a mistake of the file or of the run."""
    found: Figures = figures.get("routes", {}).get(route, {})
    return found


def _why_not_learning(thresholds: Thresholds, figures: Figures) -> str:
    needed = thresholds.learning.from_seconds
    return f"the run was shorter than {needed:g} s" if figures.get("seconds", 0.0) < needed else ""


def _judge(place: str, section: Section, figures: Figures | None, why_not: str = "") -> Iterator[Verdict]:
    for key, threshold in section.model_dump(exclude_none=True, exclude={"from_seconds"}).items():
        name, measured = f"{place}.{key}", None if figures is None else figures.get(key)
        if figures is None or why_not:
            yield Verdict(name, threshold, measured, None, why_not or "not measured in this run")
        elif measured is None:
            yield Verdict(name, threshold, None, False, "there is no such figure")
        else:
            yield Verdict(name, threshold, measured, _is_kept(key, threshold, measured))


def _is_kept(key: str, threshold: float, measured: float) -> bool:
    return measured >= threshold if key in _AT_LEAST else measured <= threshold


def _mistakes(path: Path, error: ValidationError) -> Iterator[str]:
    for mistake in error.errors():
        key = ".".join(str(part) for part in mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            yield f"{path}: {key} is no threshold that there is; see docs/loadtest.md"
        else:
            yield f"{path}: {key} = {mistake['input']!r}: {mistake['msg']}"
