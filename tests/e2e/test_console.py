"""The console in a real browser, against a ranker that says what each test wants it to say."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.e2e.chromium import chromium
from tests.e2e.fake_ranker import Data, FakeRanker, lively, newborn, policy

pytestmark = pytest.mark.slow

PATIENCE_MILLISECONDS = 30_000
expect.set_options(timeout=PATIENCE_MILLISECONDS)

WATCH_CSP = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def ranker() -> Iterator[FakeRanker]:
    with FakeRanker().serving() as ranker:
        yield ranker


@dataclass
class Console:
    """The page, and what went wrong in it. A test that provokes a failed request says so in `allowed`."""

    page: Page
    url: str
    allowed: str = "$^"
    errors: list[str] = field(default_factory=list)

    def open(self) -> Page:
        self.page.goto(f"{self.url}/console")
        return self.page

    def poll(self) -> None:
        """What happens when the tab comes to the front: it asks at once, not after two seconds."""
        self.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


@pytest.fixture
def console(browser: Browser, ranker: FakeRanker) -> Iterator[Console]:
    """Whatever a test does, at its end the page has broken no rule of its own policy and logged no error."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id="UTC") as context:
        context.add_init_script(WATCH_CSP)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        console = Console(context.new_page(), ranker.url)
        console.page.on("console", console.hear)
        console.page.on("pageerror", lambda error: console.errors.append(str(error)))
        yield console
        assert [error for error in console.errors if not re.search(console.allowed, error)] == []


def row(at: float, decisions: int, **means: float) -> Data:
    return {"at": at, "decisions": decisions, "learned": None, "fallback": None, "control": None} | means


def by_hand(now: float) -> Data:
    """Rewards become final 10 s after the decision, so the last minute ends 10 s ago."""
    rewards = [
        row(now - 300, 100, fallback=0.10),
        row(now - 298, 300, fallback=0.20),  # first minute of the fallback: (10 + 60) / 400 = 0.175
        row(now - 200, 999, fallback=0.90),  # not the first minute
        row(now - 100, 999, learned=0.90),  # not the last
        row(now - 60, 100, learned=0.50),
        row(now - 40, 300, learned=0.30),  # the last minute: (50 + 90) / 400 = 0.35, which is twice 0.175
        row(now - 4, 50, learned=5.00),  # still open: only what closed early is in it
    ]
    return lively(now) | {"reward": rewards}


def test_the_numbers_are_those_worked_out_by_hand(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = by_hand
    page = console.open()
    expect(page.locator("#connection")).to_have_text("live")
    told = {
        "#loop-name": "storefront",
        "#agent": "dqn",
        "#estimator": "mlp",
        "#stabilizer": "srs2",
        "#version": "000066",
        "#rate": "412",
        "#reward": "0.350",
        "#times": "2.00×",
        "#reward-note": "the fallback's first minute: 0.175",
        "#lift": "+0.231",
        "#lift-note": "95 % interval +0.214 to +0.248",
        "#noise": "93.1 %",
        "#freshness": "3.4 s",
        "#freshness-note": "p95; half within 1.6 s",
    }
    for place, text in told.items():
        expect(page.locator(place)).to_have_text(text)
    expect(page.locator("#totals")).to_contain_text("173,040")
    expect(page.locator("#totals")).to_contain_text("learned 80 %, explore 8 %, fallback 7 %, control 5 %")
    expect(page).to_have_title("storefront · steadyrank")


def test_a_baseline_that_the_ranker_remembers_goes_before_what_the_window_shows(
    console: Console, ranker: FakeRanker
) -> None:
    ranker.answer = lambda now: by_hand(now) | {"baseline": {"mean": 0.1, "decisions": 5000}}
    expect(console.open().locator("#times")).to_have_text("3.50×")


def test_the_numbers_follow_the_ranker(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = partial(lively, elapsed=100)
    page = console.open()
    expect(page.locator("#version")).to_have_text("000012")
    ranker.answer = partial(lively, elapsed=130)
    expect(page.locator("#version")).to_have_text("000017")
    expect(page.locator("#versions tbody th").first).to_have_text("000017")
    expect(page.locator("#versions tbody tr")).to_have_count(17)


PIXELS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) colours.add(data.slice(i, i + 3).join());
  return [...colours];
}"""
LINES_ACROSS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 12 * devicePixelRatio, canvas.width, 1);
  let lines = 0;
  for (let x = 1; x < canvas.width; x++) lines += data[4 * x + 3] > 0 && data[4 * x - 1] === 0;
  return lines;
}"""


def test_the_charts_are_drawn_each_series_in_its_colour(console: Console) -> None:
    page = console.open()
    expect(page.locator("canvas")).to_have_count(3)
    expect(page.locator("#reward-chart .u-legend")).to_contain_text("000063")  # the policy of the newest final reward
    rewards, latency, freshness = (set(canvas.evaluate(PIXELS)) for canvas in page.locator("canvas").all())
    assert {"52,87,213", "139,147,161", "201,116,15"} <= rewards  # learned, fallback, control
    assert {"122,167,163", "42,140,130", "11,90,84"} <= latency  # p50, p95, p99
    assert {"122,167,163", "11,90,84"} <= freshness
    expect(page.locator("#latency-chart")).to_have_attribute("aria-label", re.compile(r"p50 1\.\d ms, p95"))


@pytest.mark.parametrize("num", [0, 1, 7])
def test_every_swap_is_a_line_through_the_reward_chart(console: Console, ranker: FakeRanker, num: int) -> None:
    def answer(now: float) -> Data:
        return lively(now) | {
            "swaps": [{"at": now - 20 - 50 * i, "version": f"{num - i:06}"} for i in range(num)][::-1]
        }

    ranker.answer = answer
    page = console.open()
    expect(page.locator("#reward-chart .u-legend")).to_contain_text(f"{num:06}" if num else "–")
    assert page.locator("#reward-chart canvas").evaluate(LINES_ACROSS) == num


def test_a_newborn_ranker_says_that_the_fallback_serves(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = newborn
    page = console.open()
    expect(page.locator("#no-policy")).to_contain_text("No policy yet: the uniform fallback serves")
    expect(page.locator("#version")).to_have_text("none yet")
    expect(page.locator("#no-versions")).to_be_visible()
    expect(page.locator("#rollback")).to_be_disabled()
    for big in page.locator(".big > :first-child, .big:not(:has(*))").all():
        expect(big).to_have_text("–")
    expect(page.locator("#reward-chart")).to_have_attribute("aria-label", "Nothing to show yet")
    ranker.answer = lively
    expect(page.locator("#no-policy")).to_be_hidden()
    expect(page.locator("#version")).to_have_text("000066")


def pinnable(ranker: FakeRanker, now: float) -> Data:
    """000003 serves until something was promoted, which then is the champion and pinned until unpinned."""
    last = ranker.posts[-1] if ranker.posts else "/policies/unpin"
    promoted = re.fullmatch(r"/policies/(\d+)/promote", last)
    champion = promoted[1] if promoted else {"/policies/rollback": "000002"}.get(last, "000003")
    versions = [policy(i, now - 10 + i, "champion" if f"{i:06}" == champion else "published") for i in (3, 2, 1)]
    policies = {"champion": champion, "pinned": last != "/policies/unpin", "policies": versions}
    return lively(now) | {"policies": policies}


def test_promote_asks_posts_pins_and_the_list_follows(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = partial(pinnable, ranker)
    page = console.open()
    page.get_by_role("button", name="Promote 000001").click()
    expect(page.get_by_role("dialog")).to_contain_text("Promote 000001?")
    page.get_by_role("button", name="Cancel").click()
    assert ranker.posts == []

    page.get_by_role("button", name="Promote 000001").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    expect(page.locator("tr.champion th")).to_have_text("000001")
    expect(page.locator("#pinned")).to_be_visible()
    assert ranker.posts == ["/policies/000001/promote"]

    page.get_by_role("button", name="Unpin").click()
    page.get_by_role("dialog").get_by_role("button", name="Unpin").click()
    expect(page.locator("tr.champion th")).to_have_text("000003")
    expect(page.locator("#pinned")).to_be_hidden()
    assert ranker.posts[1:] == ["/policies/unpin"]


def test_rollback_asks_and_posts(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = partial(pinnable, ranker)
    page = console.open()
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("tr.champion th")).to_have_text("000002")
    assert ranker.posts == ["/policies/rollback"]


def test_a_refusal_is_told_in_the_rankers_words(console: Console, ranker: FakeRanker) -> None:
    console.allowed = "409"
    ranker.refusal = "There is no champion before 000003."
    page = console.open()
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("There is no champion before 000003.")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_only_what_can_serve_can_be_promoted(console: Console, ranker: FakeRanker) -> None:
    states = {4: "champion", 3: "rejected", 2: "published", 1: "pruned"}

    def answer(now: float) -> Data:
        policies = [policy(i, now - 60, state) for i, state in states.items()]
        return lively(now) | {"policies": {"champion": "000004", "pinned": True, "policies": policies}}

    ranker.answer = answer
    page = console.open()
    expect(page.locator("#versions tbody button:visible")).to_have_count(1)
    expect(page.locator("tr.published button")).to_have_text("Promote")


def test_new_versions_do_not_take_the_focus_from_a_button(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = partial(lively, elapsed=60)
    page = console.open()
    page.get_by_role("button", name="Promote 000003").focus()
    ranker.answer = partial(lively, elapsed=66)
    console.poll()
    expect(page.locator("#versions tbody th").first).to_have_text("000007")
    expect(page.get_by_role("button", name="Promote 000003")).to_be_focused()


def test_the_champion_is_listed_however_old_it_is(console: Console, ranker: FakeRanker) -> None:
    def answer(now: float) -> Data:
        policies = [policy(i, now - 60, "champion" if i == 5 else "published") for i in range(60, 0, -1)]
        return lively(now) | {"policies": {"champion": "000005", "pinned": True, "policies": policies}}

    ranker.answer = answer
    page = console.open()
    expect(page.locator("#versions tbody tr")).to_have_count(20)
    expect(page.locator("#versions tbody tr").last).to_contain_text("000005champion")


def test_an_unreachable_ranker_is_told_and_comes_back(console: Console) -> None:
    console.allowed = "Failed to load resource"
    page = console.open()
    expect(page.locator("#connection")).to_have_text("live")
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_have_text("unreachable")
    expect(page.locator("#trouble")).to_contain_text(re.compile(r"Shown is what it said at \d\d:\d\d:\d\d"))
    expect(page.locator("#version")).to_have_text("000066")
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_store_that_is_away_is_told(console: Console, ranker: FakeRanker) -> None:
    ranker.answer = lambda now: lively(now) | {"trouble": "the database is locked", "reward": []}
    page = console.open()
    expect(page.locator("#store-trouble")).to_contain_text("the store is away")
    expect(page.locator("#store-trouble")).to_contain_text("the database is locked")
    expect(page.locator("#reward-note")).to_have_text("no reward became final")


def test_a_key_is_asked_for_sent_and_kept_for_the_tab(console: Console, ranker: FakeRanker) -> None:
    console.allowed = "401"
    ranker.key = "sesame"
    page = console.open()
    expect(page.locator("#page")).to_be_hidden()
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#trouble")).to_have_text("X-API-Key is missing or unknown.")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#key-form")).to_be_hidden()
    page.reload()
    expect(page.locator("#connection")).to_have_text("live")
    assert json.loads(page.evaluate("JSON.stringify({...localStorage})")) == {}


def test_what_the_data_say_is_never_markup(console: Console, ranker: FakeRanker) -> None:
    evil = "<img src=x onerror=console.error('run')>"

    def answer(now: float) -> Data:
        data = lively(now)
        evil_policy = policy(1, now, metrics={evil: 1.0}) | {"version": evil, "parent": evil}
        return data | {
            "loop": data["loop"] | {"name": evil, "agent": evil},
            "policy": data["policy"] | {"version": evil},
            "policies": {"champion": None, "pinned": False, "policies": [evil_policy]},
            "modes": {evil: 3},
            "swaps": [{"at": now - 30, "version": evil}],
        }

    ranker.answer = answer
    page = console.open()
    for place in ("#loop-name", "#version", "#versions th.version"):
        expect(page.locator(place)).to_have_text(evil)
    expect(page.locator("#reward-chart .u-legend")).to_contain_text(evil)
    expect(page.locator("img")).to_have_count(1)


@pytest.mark.parametrize("width", [400, 820, 1280])
@pytest.mark.parametrize("answer", [newborn, lively])
def test_nothing_sticks_out_at_any_width(console: Console, ranker: FakeRanker, width: int, answer: object) -> None:
    ranker.answer = newborn if answer is newborn else lively
    console.page.set_viewport_size({"width": width, "height": 800})
    page = console.open()
    expect(page.locator("canvas")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_charts_follow_the_width_and_the_colour_scheme(console: Console) -> None:
    page = console.open()
    expect(page.locator("canvas")).to_have_count(3)
    page.set_viewport_size({"width": 500, "height": 800})
    expect(page.locator("#reward-chart canvas")).to_have_js_property("clientWidth", 446)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("canvas")).to_have_count(3)
    expect(page.locator("body")).to_have_css("background-color", "rgb(15, 18, 23)")
    page.wait_for_function("document.querySelector('#reward-chart canvas').width > 0")
    assert "138,165,255" in page.locator("#reward-chart canvas").evaluate(PIXELS)


UNEVEN = [{"decisions": 1, "x": 4}, {"decisions": 3, "x": 8}, {"decisions": 9, "x": None}]
HOLED = [{"at": 10, "decisions": 1, "x": 1}, {"at": 14, "decisions": 1, "x": 3}]
FAR = [{"at": 0, "x": 1}, {"at": 2, "x": 2}, {"at": 12, "x": 3}]
FIGURES: list[tuple[str, list[object], object]] = [
    ("age", [3.14], "3.1 s"),
    ("age", [-0.2], "0.0 s"),
    ("age", [42], "42 s"),
    ("age", [420], "7 min"),
    ("age", [18000], "5 h"),
    ("age", [259200], "3 d"),
    ("age", [None], "–"),
    ("signed", [-0.25], "−0.250"),
    ("signed", [0], "0.00"),
    ("percent", [0.9314], "93.1 %"),
    ("percent", [1], "100.0 %"),
    ("share", [0.004], "under 1 %"),
    ("share", [0.8], "80 %"),
    ("milliseconds", [0.184], "0.18 ms"),
    ("number", [123456], "123,456"),
    ("noiseShare", [{"reward_variance": 4, "estimate_variance": 1}], 0.75),
    ("noiseShare", [{"reward_variance": 0, "estimate_variance": 0}], None),
    ("noiseShare", [None], None),
    ("mean", [UNEVEN, "x"], 7),
    ("mean", [[], "x"], None),
    ("onGrid", [HOLED, ["x"], 60], [[10, 12, 14], [1, None, 3]]),
    ("withGaps", [FAR, ["x"], 5], [[0, 2, 7, 12], [1, 2, None, 3]]),
    ("rewardRangeOf", [{"loop": {"wait_seconds": 3600}}, [400, 1000]], [-3200, -2600]),
    ("rewardRangeOf", [{"loop": {"wait_seconds": 10}}, [400, 1000]], [400, 1000]),
]


def test_the_arithmetic_of_the_figures(console: Console) -> None:
    page = console.open()
    told = page.evaluate(
        """async (asked) => {
          const figures = await import("/console/figures.js");
          const call = ([name, given]) => figures[name](...given);
          return asked.map(call);
        }""",
        [list(each[:2]) for each in FIGURES],
    )
    assert told == [each[2] for each in FIGURES]
