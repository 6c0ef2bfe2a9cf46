"""The settings of a machine: sources, validation, export and masking."""

import os
import re
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr
from requests.utils import should_bypass_proxies

from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import mask_urls
from lenet5.model import engine
from lenet5.system import settings
from lenet5.system.settings import Settings
from lenet5.system.state import LocalState
from tests.conftest import REPOSITORY

NAMES = [name.upper() for name in Settings.model_fields]
EXAMPLE = (REPOSITORY / ".env.example").read_text()
READERS_OF_THE_ENVIRONMENT = {
    "src/lenet5/system/settings.py",
    # the environment of child processes
    "src/lenet5/system/process.py",
    "src/lenet5/system/parent_watch.py",
    "src/lenet5/training/launcher.py",
    # variables of the engine
    "src/lenet5/model/engine.py",
    "src/lenet5/model/backend.py",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture
def restored_environment(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test change any setting of this process; the end of the test restores all of them."""
    for name in {*NAMES, *settings.embedded(paths), *engine.ENGINE_FLAGS}:
        monkeypatch.setenv(name, "")


def setting(paths: Paths, name: str) -> settings.ResolvedSetting:
    return next(each for each in settings.resolved(paths) if each.name == name)


def test_environment_overrides_file_and_file_overrides_default(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.load(paths).lenet5_timezone == "UTC"
    assert setting(paths, "LENET5_TIMEZONE").origin == "default"
    (paths.root / ".env").write_text("LENET5_TIMEZONE=Europe/Paris\nLENET5_RUNS=\n")
    assert settings.load(paths).lenet5_timezone == "Europe/Paris"
    assert setting(paths, "LENET5_TIMEZONE").origin == ".env"
    assert settings.load(paths).lenet5_runs == 2, "an empty variable counts as unset"
    monkeypatch.setenv("LENET5_TIMEZONE", "")
    assert settings.load(paths).lenet5_timezone == "Europe/Paris"
    assert setting(paths, "LENET5_TIMEZONE").origin == ".env"
    monkeypatch.setenv("LENET5_TIMEZONE", "Asia/Tokyo")
    assert settings.load(paths).lenet5_timezone == "Asia/Tokyo"
    assert setting(paths, "LENET5_TIMEZONE").origin == "environment"


def test_defaults_of_tools_can_be_overridden(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting(paths, "MLFLOW_HTTP_REQUEST_MAX_RETRIES").value == "3"
    (paths.root / ".env").write_text("MLFLOW_HTTP_REQUEST_MAX_RETRIES=5\n")
    shown = setting(paths, "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    assert (shown.value, shown.origin) == ("5", ".env")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert settings.load(paths).mlflow_tracking_uri == "http://127.0.0.1:5000"
    assert settings.exports(paths)["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


@pytest.mark.usefixtures("restored_environment")
def test_settings_in_force_are_exported_to_the_environment(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_OTHER_TOOL", "")
    (paths.root / ".env").write_text(
        "PREFECT_API_AUTH_STRING=me:secret\nAWS_ACCESS_KEY_ID=key\nSOME_OTHER_TOOL=1\n"
        "LENET5_RUNS=3\nONEDNN_MAX_CPU_ISA=SSE41\n"
    )
    monkeypatch.setenv("LENET5_RUNS", "4")
    settings.apply(paths)
    assert os.environ["PREFECT_API_AUTH_STRING"] == "me:secret"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "key"
    assert os.environ["SOME_OTHER_TOOL"] == "1", "a variable of another program in .env is exported too"
    assert os.environ["LENET5_RUNS"] == "4"
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("/.lenet5/mlflow/mlflow.db")
    assert os.environ["DO_NOT_TRACK"] == "true"
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == engine.ENGINE_FLAGS["ONEDNN_MAX_CPU_ISA"]
    secret = settings.load(paths).prefect_api_auth_string
    assert secret == SecretStr("me:secret")


@pytest.mark.usefixtures("restored_environment")
def test_checkpoint_folder_is_the_same_for_every_working_directory(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENET5_CHECKPOINTS", "kept/checkpoints")
    expected = str(paths.root / "kept/checkpoints")
    assert settings.load(paths).lenet5_checkpoints == expected
    settings.apply(paths)
    assert os.environ["LENET5_CHECKPOINTS"] == expected
    monkeypatch.setenv("LENET5_CHECKPOINTS", "s3://dvc/checkpoints")
    assert settings.load(paths).lenet5_checkpoints == "s3://dvc/checkpoints"


def test_defaults_are_valid_in_a_folder_with_spaces(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "a checkout")
    assert settings.load(paths).lenet5_sweep_storage.endswith("/a checkout/.lenet5/sweeps/sweeps.db")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LENET5_TIMEZONE", "Paris", "a time zone of the IANA database"),
        ("LENET5_NIGHTLY", "at night", "five cron fields, such as 0 2 * * *"),
        ("LENET5_GPUS", "none", "valid integer"),
        ("LENET5_GPUS", "0", "greater than 0"),
        ("PREFECT_API_URL", "localhost:4200", "a web address, such as http://127.0.0.1:4200/api"),
        ("LENET5_SWEEP_STORAGE", "sweeps.db", "an SQLAlchemy URL"),
        ("LENET5_RENDEZVOUS", "host", "RANK@HOST:PORT"),
    ],
)
@pytest.mark.parametrize("origin", ["environment", ".env"])
def test_invalid_value_is_an_error(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str, origin: str
) -> None:
    if origin == ".env":
        (paths.root / ".env").write_text(f"{name}={value}\n")
        monkeypatch.setenv(name, "")
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"The setting {name} is invalid") as refused:
        settings.load(paths)
    lines = str(refused.value).splitlines()
    assert expected in next(line for line in lines if line.startswith("  expected: "))
    assert f"  found:    {value}" in lines
    place = ".env" if origin == ".env" else "the environment"
    assert f"  fix:      correct {name} in {place}; `.env.example` describes it" in lines


@pytest.mark.usefixtures("restored_environment")
@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_never_asked_for_this_machine(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "intern.example, 10.0.0.1")
    settings.apply(paths)
    for name in ("NO_PROXY", "no_proxy"):
        assert os.environ[name] == "intern.example,10.0.0.1,127.0.0.1,localhost,::1"
    assert should_bypass_proxies("http://127.0.0.1:4200/api", no_proxy=None)
    assert not should_bypass_proxies("http://example.org", no_proxy=None)


@pytest.mark.usefixtures("restored_environment")
def test_without_a_proxy_nothing_is_said_about_proxies(paths: Paths) -> None:
    settings.apply(paths)
    assert "NO_PROXY" not in os.environ


def test_variables_for_a_server_of_the_user_do_not_reach_the_embedded_one(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.setenv(name, "of another server")
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "of another server")
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    monkeypatch.setenv("PREFECT_HOME", "/somewhere")
    assert settings.for_embedded_server(paths) == {
        "PREFECT_SERVER_API_AUTH_STRING": None,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": None,
        "PREFECT_API_DATABASE_CONNECTION_URL": None,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


@pytest.mark.usefixtures("restored_environment")
def test_local_state_is_readable_by_its_owner_only(paths: Paths) -> None:
    folder = LocalState(paths.root).folder
    folder.mkdir(mode=0o755)
    settings.apply(paths)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.usefixtures("restored_environment")
def test_keras_reads_no_configuration_of_the_user(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", "/home/me/.keras")
    settings.apply(paths)
    assert os.environ["KERAS_HOME"] == str(LocalState(paths.root).folder / "keras")


def test_misspelled_name_is_an_error(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENET5_TIMEZON", "UTC")
    with pytest.raises(UsageError, match="There is no setting LENET5_TIMEZON") as refused:
        settings.load(paths)
    assert "expected: LENET5_TIMEZONE" in str(refused.value)


@pytest.mark.parametrize("set_by_parent", ["LENET5_HOME", "LENET5_SUPERVISOR"])
def test_parent_process_of_another_commit_may_set_other_names(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, set_by_parent: str
) -> None:
    monkeypatch.setenv("LENET5_REMOVED_LONG_AGO", "1")
    with pytest.raises(UsageError):
        settings.load(paths)
    monkeypatch.setenv(set_by_parent, "set")
    assert settings.load(paths).lenet5_runs == 2


def test_secrets_are_masked(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
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
    shown = {each.name: each.value for each in settings.resolved(paths)}
    for name in secrets:
        assert "hidden" not in shown[name]
        assert "dden" not in shown[name]
        assert "********" in shown[name]
    assert shown["LENET5_GIT_URL"] == "https://********@git.example.org/digits.git"
    assert "hidden" not in repr(settings.load(paths).aws_secret_access_key)


def test_error_shows_no_secret(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "ftp://me:hidden@example.org")
    with pytest.raises(UsageError) as refused:
        settings.load(paths)
    assert "hidden" not in str(refused.value)


def test_credentials_in_urls_can_be_removed() -> None:
    text = "fetch https://me:word@one.example/x and s3://bucket/key"
    assert mask_urls(text) == "fetch https://********@one.example/x and s3://bucket/key"
    assert mask_urls(text, replacement="") == "fetch https://one.example/x and s3://bucket/key"


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_described(name: str) -> None:
    assert re.search(rf"^#{name}=", EXAMPLE, re.MULTILINE)
    assert Settings.model_fields[name.lower()].description


def test_example_describes_no_other_variable() -> None:
    assert set(re.findall(r"^#([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)) == set(NAMES)


def test_values_of_the_example_are_valid(paths: Paths) -> None:
    (paths.root / ".env").write_text(re.sub(r"^#([A-Z])", r"\1", EXAMPLE, flags=re.MULTILINE))
    loaded = settings.load(paths)
    assert loaded.lenet5_dvc_remote == "s3://dvc/lenet5"
    assert loaded.lenet5_nightly == "0 2 * * *"


def test_only_settings_and_child_processes_use_the_environment() -> None:
    """Other modules take the settings from ``settings.load``, so that a reader finds all of them there."""
    files = [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "pipelines").rglob("*.py")]
    readers = {
        file.relative_to(REPOSITORY).as_posix()
        for file in files
        if re.search(r"\bos\.(environ|getenv|putenv)\b|from os import .*\benviron\b", file.read_text())
    }
    assert "src/lenet5/system/settings.py" in readers
    assert sorted(readers - READERS_OF_THE_ENVIRONMENT) == []
