"""The command line. Everything heavy is imported by the command that needs it: `serve` never loads torch."""

import argparse
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.up.lifeline import end_when_closed, stopped_by_signals

if TYPE_CHECKING:
    from schemas.loop_file import Loop
    from schemas.settings import Settings
    from simulators.worlds import WorldSpec


class CommandError(Exception):
    """A command that cannot be done; the text says why and what to do."""


# What people can mend, by its module: an error whose module was never loaded was never raised.
_MISTAKES = {
    "schemas.loop_file": "LoopFileError",
    "schemas.settings": "SettingsError",
    "service.up.preflight": "UpError",
    "service.up.supervisor": "ChildFailedError",
    "simulators.world": "WorldError",
    "storage.database": "SchemaTooNewError",
    "studies.command": "NothingKeptError",
    "trainer.run": "LearnerIsRunningError",
}
_TROUBLES = {
    "concurrent.futures.process": "BrokenProcessPool",
    "storage.database": "StoreUnavailableError",
    "storage.event_log": "LogUnavailableError",
    "simulators.product_client": "ServerError",
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 2 for what was asked wrongly, 1 for what another attempt may mend."""
    options = _parser().parse_args(arguments)
    if options.until_stdin_closes:
        end_when_closed()
    try:
        return options.command(options) or 0
    except _loaded(_MISTAKES) as error:
        return _complain(error, 2)
    except _loaded(_TROUBLES) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:  # before the command listens for signals: nothing has begun
        return 130


def _loaded(errors: dict[str, str]) -> tuple[type[Exception], ...]:
    found = [getattr(sys.modules[module], name) for module, name in errors.items() if module in sys.modules]
    return (CommandError, *found)


def _complain(error: Exception, status: int) -> int:
    print(f"steadyrank: {error}", file=sys.stderr)
    return status


# ------------------------------------------------------------------ commands


def _serve(options: argparse.Namespace) -> None:
    settings, loop = _process(options)
    if (options.workers or 1) > 1:
        from service.workers import run_workers

        program = (sys.executable, str(Path(__file__).absolute()))
        run_workers(settings, program, options.workers, stopped_by_signals())
        return
    gc.disable()  # until it serves: to look for garbage in what is imported, and stays, takes a tenth of the start
    from service.serve import run_serve

    listener = None if options.listener is None else socket.socket(fileno=options.listener)
    run_serve(settings, loop, listener=listener, metrics_folder=options.worker_of)


def _ingest(options: argparse.Namespace) -> None:
    from trainer.ingest.run import run_ingest

    run_ingest(*_process(options), stopped_by_signals())


def _train(options: argparse.Namespace) -> None:
    _need("torch", "the learner", "learner")
    settings, loop = _process(options)
    _need_what_learns(loop)
    from trainer.share import leave_room

    leave_room(settings)
    from trainer.run import run_train

    run_train(settings, loop, stopped_by_signals())


def _shoppers(options: argparse.Namespace) -> None:
    world = _world(options.world)
    from simulators.shoppers import run_shoppers

    stop = stopped_by_signals()
    run_shoppers(world, options.url, options.shoppers, options.seed, options.think, stop=stop)


def _up(options: argparse.Namespace) -> int:
    _need("torch", "the learner", "learner")
    from service.up.run import Plan, run_up

    settings = _settings(options)
    if options.world:
        world = _world(options.world)
        if options.loop is None:
            settings = settings.model_copy(update={"loop": world.loop_path})
        elif not _loop(settings).describes_same(world.loop):
            raise CommandError(
                f"{settings.loop} has other features or actions than the world {options.world}: leave it out"
            )
    loop = _loop(settings)
    _need_what_learns(loop)
    plan = Plan(
        program=(sys.executable, str(Path(__file__).absolute())),
        world=options.world,
        num_shoppers=options.shoppers,
        seed=options.seed,
        run_seconds=options.run_seconds,
        report=options.report,
    )
    return run_up(settings, loop, plan, stopped_by_signals(), sys.stdout)


def _init(options: argparse.Namespace) -> None:
    file = options.loop or Path("loop.toml")
    example = Path(__file__).parent / "schemas" / "loop.toml"  # the repository's loop.toml, and a file of the wheel
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(example.read_text(encoding="utf-8"))
    except FileExistsError:
        raise CommandError(f"{file} exists already: give another name, as in steadyrank init NAME") from None
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error
    print(f"wrote {file}: make it yours, then steadyrank check {file}")


def _check(options: argparse.Namespace) -> None:
    settings = _settings(options)
    loop = _loop(settings)
    learner, action = loop.learner, loop.action
    print(f"{settings.loop} is good: the loop {loop.name!r}, hash {loop.hash}")
    print(f"  state     {', '.join(loop.state) or 'none'}")
    print(f"  item      {', '.join(loop.item) or 'none'}")
    print(f"  action    {f'a slate of {action.size}' if action.kind == 'slate' else f'{action.dim} weights'}")
    print(f"  feedback  {', '.join(sorted(loop.feedback_kinds))}; within {loop.reward.wait_seconds:g} s")
    print(f"  learner   {learner.agent}, estimator {learner.estimator}, stabilizer {learner.stabilizer}")


def _migrate(options: argparse.Namespace) -> None:
    from storage.database import migrate

    migrate(_settings(options).store_url)
    print("the store is at the schema of this release")


def _prune(options: argparse.Namespace) -> None:
    import time

    from storage.database import migrate, open_store
    from storage.prune import prune

    url = _settings(options).store_url
    migrate(url)
    engine = open_store(url)
    try:
        pruned = prune(engine, time.time() - options.keep_seconds)
    finally:
        engine.dispose()
    day = time.strftime("%Y-%m-%d", time.gmtime(pruned.before))
    print(f"{pruned.num_decisions:,} decisions and {pruned.num_feedback:,} feedback events from before {day} are gone")


def _dead_letters(options: argparse.Namespace) -> None:
    from trainer.ingest.dead_letters import run_list, run_replay, run_resume

    settings = _settings(options)
    if options.action == "list":
        run_list(settings, sys.stdout)
    elif options.action == "resume":
        run_resume(settings, sys.stdout)
    else:
        run_replay(settings, _loop(settings), sys.stdout)


def _study(options: argparse.Namespace) -> None:
    _need("matplotlib", "a study", "studies")
    from studies.catalogue import MODULES
    from studies.command import StudyOptions, list_studies, run_study

    if options.name is None:
        list_studies(print)
        return
    if options.name not in MODULES:
        raise CommandError(f"no study is called {options.name!r}; there are {', '.join(MODULES)}")
    num_workers = options.workers or os.cpu_count() or 1
    run_study(
        options.name, StudyOptions(options.seeds, options.quick, num_workers, options.kept, options.kept_only), print
    )


# ------------------------------------------------------------------ what commands share


def _settings(options: argparse.Namespace) -> "Settings":
    from schemas.settings import Settings

    names = ("data", "loop", "host", "port", "metrics_port")
    return Settings.from_environment(**{name: getattr(options, name, None) for name in names})


def _loop(settings: "Settings") -> "Loop":
    from schemas.loop_file import read_loop

    if not settings.loop.exists():
        advice = "steadyrank init writes an example to start from, --loop takes yours"
        raise CommandError(f"there is no loop file {settings.loop}: {advice}")
    return read_loop(settings.loop)


def _process(options: argparse.Namespace) -> "tuple[Settings, Loop]":
    """What a long-running process starts from; it logs to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of its plugins at every start
    logging.getLogger("kafka").setLevel(logging.ERROR)  # why it cannot connect; it warns of every attempt, too
    settings = _settings(options)
    return settings, _loop(settings)


def _world(text: str | None) -> "WorldSpec":
    if text is None:
        raise CommandError("say which world, as in --world shop")
    _need("aiohttp", "a world", "simulators")
    from simulators.worlds import parse_world

    return parse_world(text)


def _need(module: str, what: str, extra: str) -> None:
    if find_spec(module) is None:
        raise CommandError(f"{what} needs {module}, which is not installed: pip install 'steadyrank[{extra}]'")


def _need_what_learns(loop: "Loop") -> None:
    """Now, not when a thousand impressions have come and the map is to be fitted."""
    if loop.learner.calibration == "isotonic":
        _need("sklearn", 'calibration = "isotonic"', "studies")


# ------------------------------------------------------------------ the grammar


def _duration(text: str) -> float:
    from pydantic import TypeAdapter, ValidationError

    from schemas.sections import Seconds

    try:
        return float(TypeAdapter(Seconds).validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: say 120s, 10m or 1h") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"steadyrank {version('steadyrank')}")
        except PackageNotFoundError:
            print("steadyrank, not installed: run from its checkout")
        parser.exit()


_OPTIONS: dict[str, dict[str, Any]] = {
    "action": {"choices": ("list", "replay", "resume"), "help": "show them, append them again, or let ingest go on"},
    "loop": {"metavar": "FILE", "type": Path, "nargs": "?", "help": "the loop file (default: ./loop.toml)"},
    "--data": {"type": Path, "metavar": "FOLDER", "help": "the data folder (default: ./data)"},
    "--loop": {"type": Path, "metavar": "FILE", "help": "the loop file (default: ./loop.toml)"},
    "--host": {"metavar": "ADDRESS", "help": "where the ranker listens (default: 127.0.0.1)"},
    "--port": {"type": int, "metavar": "PORT", "help": "its port (default: 8080)"},
    "--metrics-port": {"type": int, "metavar": "PORT", "help": "where it answers /metrics (default: nowhere)"},
    "--world": {"metavar": "NAME[:FOLDER]", "help": "a simulated world, as shop or virtualtb:FOLDER"},
    "--url": {"default": "http://127.0.0.1:8080", "help": "of the ranker (default: %(default)s)"},
    "--shoppers": {"type": int, "default": 100, "metavar": "N", "help": "how many at once (default: %(default)s)"},
    "--seed": {"type": int, "default": 0, "metavar": "N", "help": "of the world and its shoppers"},
    "--think": {"type": _duration, "default": 0.0, "metavar": "TIME", "help": "mean pause between decisions, as 2s"},
    "--for": {"type": _duration, "dest": "run_seconds", "metavar": "TIME", "help": "end by itself, after 120s"},
    "--keep": {"type": _duration, "dest": "keep_seconds", "metavar": "TIME", "required": True, "help": "as 90d"},
    "name": {"metavar": "NAME", "nargs": "?", "help": "which study; without one they are listed"},
    "--seeds": {"type": _count, "metavar": "N", "help": "how many (default: as many as the study wants)"},
    "--quick": {"action": "store_true", "help": "see that it runs, within minutes; writes nothing"},
    "--workers": {"type": _count, "metavar": "N", "help": "processes (default: serve has 1, a study the cores)"},
    "--kept": {"type": Path, "metavar": "FILE", "help": "finished runs (default: studies/runs/NAME.jsonl)"},
    "--kept-only": {"action": "store_true", "help": "tell of the runs that are kept, and run nothing"},
    "--report": {"type": Path, "metavar": "FILE", "help": "write what came of it, as JSON"},
    # For children of `up`, and of `serve --workers`:
    "--until-stdin-closes": {"action": "store_true", "help": argparse.SUPPRESS},
    "--listener": {"type": int, "metavar": "FD", "help": argparse.SUPPRESS},
    "--worker-of": {"type": Path, "metavar": "FOLDER", "help": argparse.SUPPRESS},
}
_PARTS, _ADDRESS, _CHILD = ("--data", "--loop"), ("--host", "--port"), ("--until-stdin-closes",)
_WORKER = (*_PARTS, "--metrics-port", *_CHILD)
_SERVE = ("--workers", "--listener", "--worker-of")
_CROWD = ("--world", "--shoppers", "--seed")
_STUDY = ("name", "--seeds", "--quick", "--workers", "--kept", "--kept-only")
_UP = "all of it, supervised: serve, ingest, train, and the shoppers of a world"
_COMMANDS: tuple[tuple[str, Callable[[argparse.Namespace], int | None], str, tuple[str, ...]], ...] = (
    ("up", _up, _UP, (*_PARTS, *_ADDRESS, *_CROWD, "--for", "--report")),
    ("serve", _serve, "the ranker: HTTP in, decisions out", (*_PARTS, *_ADDRESS, *_SERVE, *_CHILD)),
    ("ingest", _ingest, "the consumer: event log to replay store", _WORKER),
    ("train", _train, "the learner: replay store to policies", _WORKER),
    ("shoppers", _shoppers, "simulated users of a world", (*_CROWD, "--url", "--think", *_CHILD)),
    ("init", _init, "write an example loop file to start from", ("loop",)),
    ("check", _check, "say whether a loop file is good, and if not, why", ("loop",)),
    ("dead-letters", _dead_letters, "what ingest could not read", ("action", *_PARTS)),
    ("prune", _prune, "forget decisions and feedback that are older, by whole days", ("--keep", "--data")),
    ("study", _study, "answer a question about learning, with seeds", _STUDY),
    ("migrate", _migrate, "bring the store to the schema of this release", ("--data",)),
)


def _parser() -> argparse.ArgumentParser:
    about = "An online recommender that learns from its own clicks."
    parser = argparse.ArgumentParser("steadyrank", description=about, allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="say which release this is")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command, explanation, options in _COMMANDS:
        one = commands.add_parser(name, help=explanation, description=explanation, allow_abbrev=False)
        one.set_defaults(command=command, until_stdin_closes=False)
        for option in options:
            one.add_argument(option, **_OPTIONS[option])
    return parser


if __name__ == "__main__":
    sys.exit(main())
