"""Facts about this machine, and the engine variables that change a result."""

import pytest

from lenet5.model import engine
from lenet5.system import environment
from tests.conftest import REPOSITORY


def test_only_engine_variables_that_change_a_result_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "TF_CPP_MIN_LOG_LEVEL": "2",  # changes the log, not a result
        "TF_CLI_CONFIG_FILE": "of another program",
    }.items():
        monkeypatch.setenv(name, value)
    fixed = [f"{name}={value}" for name, value in engine.ENGINE_FLAGS.items()]
    assert engine.variables() == sorted([*fixed, "XLA_FLAGS=--xla_cpu_enable_fast_math=true"])


def test_machine_has_a_value_for_every_fact() -> None:
    facts = environment.machine()
    assert set(facts) == {"host", "processor", "instruction_set", "cores", "system", "python"}
    assert all(facts.values())


def test_user_is_the_tracking_user_or_else_the_login_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    assert environment.user("ada").startswith("ada@")
    assert environment.user(None).startswith("grace@")
    assert environment.user("").startswith("grace@")


def test_packages_are_compared_with_a_lock_for_this_platform() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert environment.other_packages(lock) == {}
    changed = lock.replace("absl-py==", "absl-py==0.")
    [(name, (pinned, installed))] = environment.other_packages(changed).items()
    assert (name, pinned) == ("absl-py", f"0.{installed}")
    assert environment.other_packages("numpy==0.0.1 ; python_version < '3'\nnot-there==1\n") == {}
