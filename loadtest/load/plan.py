"""The options of a run, and what they make of it. locust passes them in; nothing here needs locust."""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from loadtest.load.outbox import Outbox
from loadtest.load.products import LoopProduct, Product, WorldProduct
from loadtest.load.tally import Tally
from loadtest.load.thresholds import Thresholds, read_thresholds
from schemas.loop_file import read_loop
from simulators.worlds import parse_world


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, as its shoppers and producers see it."""

    product: Product
    think_seconds: float
    """Mean time between the pages of a session, exponential."""
    headers: dict[str, str]
    kafka: str = ""
    """Bootstrap servers; empty: all feedback goes over HTTP."""
    kafka_share: float = 0.5
    """Of pages whose feedback goes to Kafka, where there is one."""
    num_producers: int = 2
    seed: int = 0
    thresholds: Thresholds | None = None
    folder: Path | None = None
    """Where figures and ids go."""
    # Unlike the rest, ids must differ from run to run, and from process to process: the ranker repeats its answers.
    run: str = field(default_factory=lambda: uuid4().hex[:12])
    tally: Tally = field(default_factory=Tally)
    outbox: Outbox = field(default_factory=Outbox)


def add_options(parser: ArgumentParser) -> None:
    """Of locust's command line and of its web page."""
    add: Any = parser.add_argument  # locust's takes more than argparse's
    add("--loop-file", default="loop.toml", metavar="FILE", help="the ranker's loop file: what contexts may hold")
    add("--world", default="", metavar="NAME", help="shoppers of this world instead, whose clicks have a truth: shop")
    add("--think", type=float, default=1.0, metavar="SECONDS", help="mean time between two pages of a session")
    add("--click-rate", type=float, default=0.1, metavar="P", help="with --loop-file: of an item that is looked at")
    add(
        "--items",
        type=int,
        default=0,
        metavar="N",
        help="with --loop-file: put so many made-up items into the catalogue",
    )
    add("--api-key", default="", metavar="KEY", env_var="STEADYRANK_LOADTEST_API_KEY", is_secret=True)
    add("--kafka", default="", metavar="HOST:PORT", help="half of the feedback goes to Kafka itself")
    add("--producers", type=int, default=2, metavar="N", help="with --kafka: who write it, among the users")
    add("--shop-seed", type=int, default=0, metavar="N", help="of the world and of what shoppers do")
    add("--thresholds", default="", metavar="FILE", help="exit with 1 where one of them is broken")
    add("--folder", default="", metavar="FOLDER", help="write figures.json and the ids of all feedback there")


def make_plan(options: Namespace) -> Plan:
    """Raises `LoopFileError`, `WorldError` or `ThresholdsError`, which say what is wrong."""
    return Plan(
        product=_product(options),
        think_seconds=options.think,
        headers={"Content-Type": "application/json"} | ({"X-API-Key": options.api_key} if options.api_key else {}),
        kafka=options.kafka,
        num_producers=options.producers,
        seed=options.shop_seed,
        thresholds=read_thresholds(Path(options.thresholds)) if options.thresholds else None,
        folder=Path(options.folder) if options.folder else None,
    )


def _product(options: Namespace) -> Product:
    if options.world:
        return WorldProduct(parse_world(options.world).make(options.shop_seed), options.shop_seed)
    return LoopProduct(read_loop(Path(options.loop_file)), options.click_rate, options.items, options.shop_seed)
