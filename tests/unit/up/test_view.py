"""What people see while it runs: the same facts as a panel and as a line."""

import io
import json

import msgspec
from rich.console import Console

from service.up.ranker import ConsoleData, RankerRecord
from service.up.shoppers import ShoppersRecord
from service.up.view import ChildState, LineView, LiveView, Status, line, open_view, rows
from tests.e2e.fake_ranker import Data, newborn
from tests.unit.up.lines import start, tick

NOW = 10_000.0
LIVELY: Data = {
    "decisions_per_second": 412.3,
    "totals": {"decisions": 34_120, "feedback_accepted": 12_345},
    "reward": [
        {"at": NOW - 80, "decisions": 10, "fallback": 0.2},
        {"at": NOW - 20, "decisions": 10, "learned": 0.45},
    ],
    "policy": {"version": "000042", "age_seconds": 3.14, "created_at": NOW - 3},
    "swaps": [{"at": NOW, "version": "000041"}, {"at": NOW, "version": "000042"}],
    "freshness_total": {"p50": 1.62, "p95": 3.41, "count": 100},
    "learner": {"noise_share": 0.931},
}
CHILDREN = (ChildState("serve", "running", 0), ChildState("ingest", "waiting", 2))


def status(said: Data | None = None, *, has_shoppers: bool = True) -> Status:
    ranker, shoppers = RankerRecord(), ShoppersRecord()
    if said is not None:
        ranker.add(msgspec.json.decode(json.dumps(newborn(NOW) | said), type=ConsoleData))
    shoppers.add(start(random=0.18))
    shoppers.add(tick(NOW, 100, 20.0, requests_failed=3, feedback_accepted=1234))
    return Status(83.0, 120.0, ranker, shoppers if has_shoppers else None, CHILDREN, "http://127.0.0.1:8080")


def test_the_rows() -> None:
    assert dict(rows(status(LIVELY))) == {
        "decisions": "412 a second, 34,120 in all",
        "reward": "0.45, 2.50 × random (0.18)",
        "policy": "000042, 3.1 s old, 2 swapped in",
        "freshness": "p50 1.6 s, p95 3.4 s from feedback to served",
        "learning": "dqn on srs2 rewards, 93% of the reward's variance is noise, as far as it knows",
        "requests": "3 failed, 1,234 feedback events accepted",
        "children": "serve running   ingest waiting, 2 restarts",
        "console": "http://127.0.0.1:8080/console   docs http://127.0.0.1:8080/docs",
    }


def test_without_a_world_the_reward_is_compared_with_the_fallback_s_first_minute() -> None:
    found = dict(rows(status(LIVELY, has_shoppers=False)))
    assert found["reward"] == "0.45, 2.25 × the fallback's first minute (0.2)"
    assert found["requests"] == "12,345 feedback events accepted"


def test_before_the_first_policy() -> None:
    found = dict(rows(status({}, has_shoppers=False)))
    assert found["reward"] == "–"
    assert found["policy"] == "none yet, the fallback answers"
    assert found["learning"] == "dqn on srs2 rewards"


def test_before_the_ranker_answers_its_address_and_the_children_are_shown() -> None:
    assert [label for label, _ in rows(status())] == ["ranker", "children", "console"]
    assert line(status()) == "01:23 of 02:00  the ranker is starting"


def test_the_line() -> None:
    assert line(status(LIVELY)) == (
        "01:23 of 02:00  412 decisions/s; reward 0.45, 2.50 × random (0.18); policy 000042, 3.1 s old, 2 swapped in; "
        "fresh p50 1.6 s, p95 3.4 s; 3 failed, 1,234 feedback events accepted"
    )


def test_a_line_every_five_seconds_and_news_at_once() -> None:
    now, out = [100.0], io.StringIO()
    view = LineView(out, lambda: now[0])
    for now[0] in (100.0, 101.0, 104.9, 105.0, 106.0):
        view.show(status())
    view.say("ingest died")
    view.close()
    assert out.getvalue() == 2 * (line(status()) + "\n") + "ingest died\n"


def test_the_panel_shows_the_rows_below_the_news() -> None:
    now, out = [100.0], io.StringIO()
    view = LiveView("steadyrank up · shop", Console(file=out, force_terminal=True, width=100), lambda: now[0])
    view.show(status())
    view.say("ingest died [signal 9]")
    view.show(status(LIVELY))  # too soon to be drawn, unless it is the last
    assert "000042" not in out.getvalue()
    view.close()
    view.say("24,103 decisions")
    for part in ("steadyrank up · shop", "01:23 of 02:00", "ingest died [signal 9]", "2.50 × random", "000042"):
        assert part in out.getvalue()
    assert out.getvalue().endswith("24,103 decisions\n")


def test_a_pipe_gets_lines() -> None:
    assert isinstance(open_view("steadyrank up", io.StringIO()), LineView)
