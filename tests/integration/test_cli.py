"""The command line as a person meets it: what it answers, where, and with which exit status."""

import json
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import steadyrank
from schemas.loop_file import read_loop

ROOT = Path(__file__).parents[2]


PROGRAM = (str(ROOT / "steadyrank.py"),)


def run(
    *arguments: str, folder: Path, program: tuple[str, ...] = PROGRAM, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEADYRANK_")}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=environment | (variables or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(*arguments: str, folder: Path, variables: dict[str, str] | None = None) -> str:
    """What a refused command says: on stderr alone, without a traceback, status 2."""
    done = run(*arguments, folder=folder, variables=variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, steadyrank\n"
        "try: steadyrank.main(['--help'])\n"
        "finally: print(sorted(sys.modules.keys() & {'torch', 'numpy', 'pydantic', 'sqlalchemy', 'fastapi', 'rich'}))"
    )
    done = run(folder=tmp_path, program=("-c", code), variables={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    for command in ("up", "serve", "ingest", "train", "shoppers", "init", "check", "migrate"):
        assert f"\n    {command} " in done.stdout
    assert done.stdout.endswith("[]\n")
    assert "until-stdin-closes" not in run("serve", "--help", folder=tmp_path).stdout


def test_version(tmp_path: Path) -> None:
    done = run("--version", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("steadyrank")


def test_init_writes_an_example_that_check_finds_good(tmp_path: Path) -> None:
    done = run("init", folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "loop.toml").read_text() == (ROOT / "loop.toml").read_text()
    done = run("check", folder=tmp_path)
    assert done.returncode == 0
    assert "the loop 'storefront'" in done.stdout
    assert read_loop(tmp_path / "loop.toml").hash in done.stdout


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("precious")
    assert "mine.toml exists already" in refused("init", "mine.toml", folder=tmp_path)
    assert (tmp_path / "mine.toml").read_text() == "precious"
    assert "cannot be written" in refused("init", "nowhere/loop.toml", folder=tmp_path)


def test_the_example_is_one_file_that_the_wheel_has_too() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "schemas" in wheel["only-include"]
    assert (ROOT / "schemas" / "loop.toml").samefile(ROOT / "loop.toml")


def test_check_names_each_mistake(tmp_path: Path) -> None:
    text = (ROOT / "loop.toml").read_text()
    broken = text.replace("max = 100 }", "maximum = 100 }").replace('= "dqn"', '= "dqm"')
    (tmp_path / "loop.toml").write_text(broken)
    said = refused("check", folder=tmp_path)
    assert "state.page.maximum" in said
    assert "'dqm' is not known" in said
    (tmp_path / "loop.toml").write_text("name = ")
    assert "is not TOML" in refused("check", folder=tmp_path)


@pytest.mark.parametrize("command", ["serve", "ingest", "train", "up", "check"])
def test_a_missing_loop_file_is_answered_with_what_to_do(tmp_path: Path, command: str) -> None:
    said = refused(command, folder=tmp_path)
    assert "there is no loop file loop.toml" in said
    assert "steadyrank init" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--world", "shoop"], "no world is called 'shoop'; there are shop,"),
        (["up", "--world", "virtualtb:nowhere"], "nowhere"),
        (["up", "--for", "12"], "'12' is no duration: say 120s"),
        (["shoppers"], "say which world, as in --world shop"),
        (["serve", "--port", "70000"], "STEADYRANK_PORT"),
        (["up", "--world", "shop", "--report", "nowhere/report.json"], "--report nowhere/report.json"),
        (["up", "--world", "shop", "--data", "loop.toml"], "the data folder"),
        (["dance"], "'dance'"),
        ([], "COMMAND"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "loop.toml").write_text((ROOT / "loop.toml").read_text())
    assert words in refused(*arguments, folder=tmp_path)


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    assert "STEADYRANK_PROT" in refused("check", folder=tmp_path, variables={"STEADYRANK_PROT": "1"})


def test_without_torch_the_learner_says_which_extra_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steadyrank, "find_spec", lambda _: None)
    assert steadyrank.main(["train", "--data", str(tmp_path)]) == 2
    assert "steadyrank[learner]" in capsys.readouterr().err
    assert steadyrank.main(["shoppers", "--world", "shop"]) == 2
    assert "steadyrank[simulators]" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "up"])
def test_without_scikit_learn_isotonic_calibration_is_refused_at_the_start(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = (ROOT / "loop.toml").read_text()
    (tmp_path / "loop.toml").write_text(example.replace("[learner]", '[learner]\ncalibration = "isotonic"'))
    monkeypatch.setattr(steadyrank, "find_spec", lambda module: None if module == "sklearn" else object())
    assert steadyrank.main([command]) == 2
    assert 'calibration = "isotonic" needs sklearn' in (said := capsys.readouterr().err)
    assert "steadyrank[studies]" in said


def test_migrate_makes_the_store_and_is_harmless_to_repeat(tmp_path: Path) -> None:
    for _ in range(2):
        assert run("migrate", "--data", "here", folder=tmp_path).returncode == 0
    assert (tmp_path / "here" / "steadyrank.db").exists()


def test_a_store_that_cannot_be_used_is_trouble_and_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "steadyrank.db").write_text("this is no database, however long it may be")
    done = run("migrate", "--data", ".", folder=tmp_path)
    assert done.returncode == 1
    assert "steadyrank.db cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("serve",), ("up", "--world", "shop")])
def test_a_port_in_use_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "loop.toml").write_text((ROOT / "loop.toml").read_text())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused(*command, "--port", port, folder=tmp_path)


def test_a_world_brings_its_own_loop_and_a_loop_of_one_s_own_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.json").write_text(json.dumps({"name": "another", "hash": "0"}))
    said = refused("up", "--world", "shop", "--data", ".", folder=tmp_path)
    assert "this one is 'shop'" in said
    mine = (ROOT / "simulators" / "shop.toml").read_text().replace('name = "shop"', 'name = "mine"')
    (tmp_path / "mine.toml").write_text(mine)
    said = refused("up", "--world", "shop", "--data", ".", "--loop", "mine.toml", folder=tmp_path)
    assert "this one is 'mine'" in said


def test_a_loop_that_does_not_describe_the_world_is_refused(tmp_path: Path) -> None:
    assert run("init", "mine.toml", folder=tmp_path).returncode == 0
    said = refused("up", "--world", "shop", "--loop", "mine.toml", folder=tmp_path)
    assert "mine.toml has other features or actions than the world shop" in said
    assert not (tmp_path / "data").exists()
