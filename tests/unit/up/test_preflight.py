"""What `up` refuses before it starts anything, and how it says so."""

import json
import os
from pathlib import Path

import pytest

from schemas.loop_file import Loop, read_loop
from service.up.preflight import UpError, address, check_report_path, claim, listen, locked

LOOP = read_loop(Path(__file__).parents[3] / "loop.toml")


def changed(**parts: object) -> Loop:
    return LOOP.model_copy(update=parts)


def test_a_second_up_on_the_same_folder_is_refused_by_folder_and_pid(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with locked(folder), pytest.raises(UpError) as caught, locked(folder):
        pass
    assert str(folder) in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    with locked(folder):
        assert (folder / "up.lock").read_text() == str(os.getpid())


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpError, match="file/data"), locked(tmp_path / "file" / "data"):
        pass


def test_a_folder_belongs_to_the_loop_that_came_first(tmp_path: Path) -> None:
    assert claim(tmp_path, LOOP) is None
    assert claim(tmp_path, LOOP) is None
    assert json.loads((tmp_path / "loop.json").read_text()) == {"name": "storefront", "hash": LOOP.hash}
    with pytest.raises(UpError, match=r"belongs to the loop 'storefront'.*'shop'.*--data .*shop"):
        claim(tmp_path, changed(name="shop"))


def test_a_loop_whose_shape_has_changed_keeps_its_folder_and_says_so_once(tmp_path: Path) -> None:
    reshaped = changed(network=LOOP.network.model_copy(update={"vector_dim": 32}))
    assert reshaped.hash != LOOP.hash
    claim(tmp_path, LOOP)
    assert "old policies do not serve" in (claim(tmp_path, reshaped) or "")
    assert claim(tmp_path, reshaped) is None


def test_a_broken_note_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "loop.json").write_text("{")
    assert claim(tmp_path, LOOP) is None
    assert json.loads((tmp_path / "loop.json").read_text())["name"] == "storefront"


def test_a_port_in_use_is_refused_by_number() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert port > 0
        with pytest.raises(UpError, match=f"port {port} of 127.0.0.1 is in use.*--port"):
            listen("127.0.0.1", port)
    listen("127.0.0.1", port).close()


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(UpError, match=r"nothing can listen on 192\.0\.2\.1, port 8080"):
        listen("192.0.2.1", 8080)


@pytest.mark.parametrize("place", ["nowhere/report.json", "."])
def test_a_report_that_could_not_be_written_is_refused_before_the_run(tmp_path: Path, place: str) -> None:
    with pytest.raises(UpError, match="--report"):
        check_report_path(tmp_path / place)
    check_report_path(tmp_path / "report.json")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("shop.internal", "http://shop.internal:80"),
    ],
)
def test_the_address_that_this_machine_can_reach(host: str, url: str) -> None:
    assert address(host, 80) == url
