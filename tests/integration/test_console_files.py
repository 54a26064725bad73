"""The console's page and the real ranker agree: on the files, and on what `/console/data` says."""

import asyncio
import re
from pathlib import Path

import httpx

from schemas.loop_file import read_loop
from schemas.settings import Settings
from service.app import create_app
from service.bootstrap import make_parts
from tests.e2e.fake_ranker import CONSOLE, newborn

LOOP = Path(__file__).parents[2] / "loop.toml"
ASKED_FOR = re.compile(r'"(/console/[\w.]+)"')


def answers(data: Path, *paths: str) -> list[httpx.Response]:
    """What a ranker of which nothing was asked yet answers to each GET."""

    async def get() -> list[httpx.Response]:
        parts = make_parts(Settings(data=data), read_loop(LOOP))
        transport = httpx.ASGITransport(create_app(parts))
        async with parts.running(), httpx.AsyncClient(transport=transport, base_url="http://ranker") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(get())


def test_every_file_that_the_page_and_its_scripts_ask_for_is_served(tmp_path: Path) -> None:
    sources = [*CONSOLE.glob("*.html"), *CONSOLE.glob("*.js")]
    asked_for = sorted({path for source in sources for path in ASKED_FOR.findall(source.read_text())})
    assert "/console/figures.js" in asked_for
    for answer in answers(tmp_path, "/console", *asked_for):
        assert answer.status_code == 200, answer.url


def test_the_rankers_data_have_the_shape_that_the_page_is_tested_with(tmp_path: Path) -> None:
    told = answers(tmp_path, "/console/data?seconds=3600")[0].json()
    expected = newborn(0.0)
    assert {*expected} <= {*told}
    for name in ("loop", "freshness_total", "policies", "totals", "modes"):
        assert {*told[name]} == {*expected[name]}, name
