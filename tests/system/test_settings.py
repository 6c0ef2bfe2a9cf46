"""What a machine says about itself: from where, checked, and without its secrets."""

import re
from pathlib import Path

import pytest

from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.system import settings
from lenet5.system.settings import Settings
from tests.conftest import REPOSITORY

NAMES = [name.upper() for name in Settings.model_fields]
EXAMPLE = (REPOSITORY / ".env.example").read_text()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def fact(paths: Paths, name: str) -> settings.Fact:
    return next(fact for fact in settings.facts(paths) if fact.name == name)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.load(paths).lenet5_timezone == "UTC"
    assert fact(paths, "LENET5_TIMEZONE").origin == "default"
    (paths.root / ".env").write_text("LENET5_TIMEZONE=Europe/Paris\nLENET5_RUNS=\n")
    assert settings.load(paths).lenet5_timezone == "Europe/Paris"
    assert fact(paths, "LENET5_TIMEZONE").origin == ".env"
    assert settings.load(paths).lenet5_runs == 2, "empty is as good as unset"
    monkeypatch.setenv("LENET5_TIMEZONE", "Asia/Tokyo")
    assert settings.load(paths).lenet5_timezone == "Asia/Tokyo"
    assert fact(paths, "LENET5_TIMEZONE").origin == "environment"


def test_what_is_in_force_reaches_the_tools(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*settings.embedded(paths), *engine.ENGINE_FLAGS]:
        monkeypatch.setenv(name, "")  # put back after the test
    (paths.root / ".env").write_text("PREFECT_API_AUTH_STRING=me:secret\nAWS_ACCESS_KEY_ID=key\n")
    for name in ("PREFECT_API_AUTH_STRING", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "")
    settings.apply(paths)
    import os

    assert os.environ["PREFECT_API_AUTH_STRING"] == "me:secret"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "key"
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("/.lenet5/mlflow/mlflow.db")
    assert os.environ["DO_NOT_TRACK"] == "true"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LENET5_TIMEZONE", "Paris", "no time zone of the IANA database"),
        ("LENET5_NIGHTLY", "at night", "String should match pattern"),
        ("LENET5_GPUS", "none", "valid integer"),
        ("LENET5_GPUS", "0", "greater than 0"),
        ("PREFECT_API_URL", "localhost:4200", "String should match pattern"),
    ],
)
def test_what_cannot_be_used_is_an_error(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"The setting {name} cannot be used") as refused:
        settings.load(paths)
    assert told in str(refused.value)
    assert f"found:    {value}" in str(refused.value)
    assert "correct it in the environment" in str(refused.value)


def test_a_name_that_is_mistyped_is_an_error(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENET5_TIMEZON", "UTC")
    with pytest.raises(UsageError, match="There is no setting LENET5_TIMEZON") as refused:
        settings.load(paths)
    assert "expected: LENET5_TIMEZONE" in str(refused.value)


def test_secrets_are_not_shown(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "MLFLOW_TRACKING_PASSWORD": "hidden",
        "MLFLOW_TRACKING_TOKEN": "hidden",
        "PREFECT_API_AUTH_STRING": "me:hidden",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "AWS_SESSION_TOKEN": "hidden",
        "MLFLOW_TRACKING_URI": "postgresql+psycopg://me:hidden@host/database",
        "LENET5_GIT_URL": "https://me:hidden@git.example.org/digits.git",
        "LENET5_DVC_REMOTE": "https://hidden@example.org",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    shown = {fact.name: fact.value for fact in settings.facts(paths)}
    for name in secrets:
        assert "hidden" not in shown[name]
        assert "dden" not in shown[name]
        assert "********" in shown[name]
    assert shown["LENET5_GIT_URL"] == "https://********@git.example.org/digits.git"
    assert "hidden" not in repr(settings.load(paths).aws_secret_access_key)


def test_an_error_shows_no_secret_either(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "ftp://me:hidden@example.org")
    with pytest.raises(UsageError) as refused:
        settings.load(paths)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_told_of(name: str) -> None:
    assert re.search(rf"^#{name}=", EXAMPLE, re.MULTILINE)
    assert Settings.model_fields[name.lower()].description


def test_the_example_tells_of_no_other() -> None:
    assert set(re.findall(r"^#([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)) == set(NAMES)


def test_the_example_can_be_used_as_it_is(paths: Paths) -> None:
    """Its values, all of them at once, are ones that are taken."""
    (paths.root / ".env").write_text(re.sub(r"^#([A-Z])", r"\1", EXAMPLE, flags=re.MULTILINE))
    found = settings.load(paths)
    assert found.lenet5_dvc_remote == "s3://dvc/lenet5"
    assert found.lenet5_nightly == "0 2 * * *"
