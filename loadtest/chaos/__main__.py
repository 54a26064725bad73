"""`python -m loadtest.chaos`: exit status 0 if what was promised was kept, 1 if not."""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from loadtest.chaos.report import problems, table
from loadtest.chaos.run import Plan, run_chaos


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m loadtest.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kill -9s at least (default: %(default)s)")
    parser.add_argument("--events", type=int, default=500_000, help="acknowledged ones at least (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1500, help="of killing at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of kills and load (default: another one each time)")
    parser.add_argument("--rate", type=float, default=65, help="decisions a second (default: %(default)s)")
    parser.add_argument(
        "--pause", type=float, default=4.5, help="seconds between faults, on average (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, default=Path("data/chaos"), help="emptied first (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report goes as JSON")
    return parser.parse_args()


def main() -> int:
    options = _options()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    seed = int(time.time()) if options.seed is None else options.seed
    plan = Plan(options.folder, options.kills, options.events, options.seconds, seed, options.rate, options.pause)
    report = {"seed": seed, **run_chaos(plan, _say)}
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    _say("\n" + table(report) + "\n")
    found = problems(report)
    for problem in found:
        _say(f"WRONG: {problem}")
    if not found:
        _say("all that was acknowledged is stored, once, and every reward is right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
