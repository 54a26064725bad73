"""Settings come from the environment; a wrong one is named."""

from pathlib import Path

import pytest

from schemas.settings import Settings, SettingsError


def test_variables_and_overrides(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {"STEADYRANK_PORT": "9000", "STEADYRANK_DATA": str(tmp_path), "HOME": "/x"}, port=9001, host=None
    )
    assert settings.port == 9001
    assert settings.host == "127.0.0.1"
    assert settings.store_url == f"sqlite:///{tmp_path}/steadyrank.db"
    assert settings.log_url == f"sqlite:///{tmp_path}/events.db"


def test_on_postgresql_the_log_lives_in_the_same_database() -> None:
    settings = Settings.from_environment({"STEADYRANK_DATABASE_URL": "postgresql+psycopg://db/x"})
    assert settings.log_url == settings.store_url == "postgresql+psycopg://db/x"


def test_variables_of_the_tests_and_of_the_benchmark_are_no_settings() -> None:
    others = {"STEADYRANK_TEST_KAFKA": "h:1", "STEADYRANK_BENCH_PEERS": "/bin/python"}
    assert Settings.from_environment(others) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("STEADYRANK_PORT", "70000", "65535"), ("STEADYRANK_PROT", "1", "not permitted")],
)
def test_a_wrong_variable_is_named(name: str, value: str, word: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert name in str(caught.value)
    assert value in str(caught.value)
    assert word in str(caught.value)
