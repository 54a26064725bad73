"""Who may import whom (docs/architecture.md): read from the source, so that a lazy import counts too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT: dict[str, set[str]] = {
    "schemas": set(),
    "policies": {"schemas"},
    "storage": {"schemas", "migrations"},
    "service": {"schemas", "policies", "storage"},
    "trainer": {"schemas", "policies", "storage"},
    "simulators": {"schemas"},
    "migrations": {"schemas"},
    "steadyrank.py": {"schemas", "storage", "service", "trainer", "simulators", "studies"},
}

OURS = {*MAY_IMPORT, "studies", "loadtest", "bench", "tests"}

ONLY_IN: dict[str, tuple[str, ...]] = {
    "kafka": ("storage",),
    "sqlalchemy": ("storage", "migrations", "schemas/tables.py"),
    "alembic": ("storage", "migrations"),
    "fastapi": ("service",),
    "starlette": ("service",),
    "torch": ("trainer", "simulators"),
    "aiohttp": ("simulators",),
    "rich": ("service/up",),
}

# domain (pure) ◀ adapters ◀ bootstrap ◀ entry points. What is not named here is an adapter.
DOMAIN: dict[str, set[str]] = {
    "storage": {"event_log"},
    "service": {"catalogue", "choosing", "ids", "indexed", "live", "pool", "problems", "ranking", "recent"},
    "trainer": {
        "adam",
        "agents",
        "attention",
        "embeddings",
        "evaluation",
        "ingest.dead_letter_limit",
        "ingest.finality",
        "ingest.parse",
        "ingest.replay_letters",
        "ingest.reward_rule",
        "network_setup",
        "networks",
        "pace",
        "replay",
        "rewards",
        "state",
    },
}
IMPURE = {
    "alembic",
    "asyncio",
    "fastapi",
    "kafka",
    "pathlib",
    "prometheus_client",
    "sqlalchemy",
    "threading",
    "uvicorn",
}
ENTRY = {
    "service": {"serve", "up.run", "workers"},
    "trainer": {"run", "ingest.run", "ingest.dead_letters"},
    "storage": set[str](),
}
BOOTSTRAP = {"service": {"bootstrap"}, "trainer": set[str](), "storage": {"event_logs"}}


def sources() -> list[Path]:
    folders = (ROOT / top for top in MAY_IMPORT)
    return sorted(path for top in folders for path in ([top] if top.is_file() else top.rglob("*.py")))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    top = place(path).split("/")[0]
    allowed = MAY_IMPORT[top] | {top}
    wrong = {name for name in imported(path) if name.split(".")[0] in OURS - allowed}
    assert not wrong, f"{place(path)} imports {sorted(wrong)}"


@pytest.mark.parametrize("path", sources(), ids=place)
def test_a_library_is_used_only_in_its_place(path: Path) -> None:
    for name in imported(path):
        places = ONLY_IN.get(name.split(".")[0])
        assert places is None or place(path).startswith(places), f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", sources(), ids=place)
def test_the_environment_is_read_only_in_settings(path: Path) -> None:
    reads = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert place(path) == "schemas/settings.py" or not reads & {"environ", "getenv", "putenv"}


def inside(path: Path) -> tuple[str, str]:
    """The package of a module, and its name below it."""
    top, *rest = place(path).removesuffix(".py").removesuffix("/__init__").split("/")
    return top, ".".join(rest)


def is_in(name: str, layer: set[str]) -> bool:
    return any(name == each or name.startswith(each + ".") for each in layer)


def layer_of(top: str, name: str) -> int:
    for number, layer in ((0, DOMAIN), (2, BOOTSTRAP), (3, ENTRY)):
        if is_in(name, layer[top]):
            return number
    return 1


@pytest.mark.parametrize("path", [path for path in sources() if inside(path)[0] in DOMAIN], ids=place)
def test_a_layer_never_imports_a_later_one(path: Path) -> None:
    top, name = inside(path)
    own = layer_of(top, name)
    for other in imported(path):
        if other.startswith(top + "."):
            assert layer_of(top, other.removeprefix(top + ".")) <= own, f"{place(path)} imports {other}"
        assert own > 0 or other.split(".")[0] not in IMPURE, f"{place(path)} is domain and imports {other}"


def test_every_module_named_in_a_layer_exists() -> None:
    for layers in (DOMAIN, BOOTSTRAP, ENTRY):
        for top, names in layers.items():
            for name in names:
                module = ROOT / top / name.replace(".", "/")
                assert module.is_dir() or module.with_suffix(".py").is_file(), f"{top}.{name}"


@pytest.mark.parametrize("module", ["service.serve", "trainer.ingest.run", "steadyrank"])
def test_the_ranker_and_ingest_never_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_ranker_on_sqlite_starts_without_what_it_may_never_need() -> None:
    late = ["alembic", "fastapi", "kafka", "psycopg", "rich", "sqlalchemy.dialects.postgresql"]
    code = f"import sys, steadyrank, service.serve; print(*(name for name in {late} if name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert not loaded.split(), "each takes memory, and a part of the start"


def test_no_import_cycles_between_modules() -> None:
    graph = {
        place(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): {
            name for name in imported(path) if name.split(".")[0] in OURS
        }
        for path in sources()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for name in graph.get(module, ()):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())
