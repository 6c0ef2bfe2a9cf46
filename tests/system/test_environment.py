"""What is told of a machine, and of the variables that decide a result."""

import pytest

from lenet5.model import engine
from lenet5.system import environment
from tests.conftest import REPOSITORY


def test_only_variables_that_decide_the_sums_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "TF_CPP_MIN_LOG_LEVEL": "2",  # says less, does the same
        "TF_CLI_CONFIG_FILE": "of another program",
    }.items():
        monkeypatch.setenv(name, value)
    fixed = [f"{name}={value}" for name, value in engine.ENGINE_FLAGS.items()]
    assert engine.variables() == sorted([*fixed, "XLA_FLAGS=--xla_cpu_enable_fast_math=true"])


def test_a_machine_is_told_in_words() -> None:
    told = environment.machine()
    assert set(told) == {"host", "processor", "instruction_set", "cores", "system", "python"}
    assert all(told.values())


def test_a_user_is_named_as_the_server_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    assert environment.user().startswith("ada@")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setenv("LOGNAME", "grace")
    assert environment.user().startswith("grace@")


def test_packages_are_compared_with_a_lock_for_this_platform() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert environment.other_packages(lock) == {}
    other = lock.replace("absl-py==", "absl-py==0.")
    [(name, (pinned, installed))] = environment.other_packages(other).items()
    assert (name, pinned) == ("absl-py", f"0.{installed}")
    assert environment.other_packages("numpy==0.0.1 ; python_version < '3'\nnot-there==1\n") == {}
