"""Likely causes of a reproduction with other bytes: recorded differences, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lenet5.core.paths import Paths
from lenet5.core.results import Environment, Lineage
from lenet5.registry import reproduction
from lenet5.registry.model_versions import Version
from lenet5.registry.reproduction import DigestComparison
from lenet5.system import environment
from tests.conftest import REPOSITORY

WEIGHTS = DigestComparison("weights", "a" * 64, "b" * 64)
PREDICTIONS = DigestComparison("predictions", "a" * 64, "b" * 64)
FIXED = ["ONEDNN_MAX_CPU_ISA=AVX2"]


@pytest.fixture
def made(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    paths.params.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    Lineage(
        training="t",
        raw_data="r",
        processed_data="p",
        weights="w",
        model_file="m",
        onnx_file="o",
        environment=Environment(requirements="q", packages={}, switches=FIXED, device="CPU"),
    ).write(paths.lineage)
    return paths


def causes(
    made: Paths, rows: list[DigestComparison], packages: dict[str, tuple[str, str]], **tags: str
) -> list[str]:
    machine = environment.machine()
    recorded = {
        "environment.device": "CPU",
        "environment.switches": FIXED[0],
        "environment.threads": "1",
        "machine.instruction_set": machine["instruction_set"],
        "machine.python": machine["python"],
    }
    version_tags = recorded | {name.replace("__", "."): value for name, value in tags.items()}
    version = Version("digits", 1, (), datetime.now(UTC), "run", version_tags)
    return reproduction.causes(version, made, rows, packages)


@pytest.mark.parametrize(
    ("tag", "value", "expected"),
    [
        ("environment__device", "NVIDIA H200", "another device: NVIDIA H200 then, CPU now"),
        ("environment__switches", "", "another engine variable: none then, ONEDNN_MAX_CPU_ISA=AVX2 now"),
        ("environment__threads", "2", "another number of threads: 2 then, 1 now"),
        ("machine__instruction_set", "NEON", "another instruction set: NEON then, "),
        ("machine__python", "3.9.1", "another Python: 3.9.1 then, "),
    ],
)
def test_differences_of_the_machine_are_listed(made: Paths, tag: str, value: str, expected: str) -> None:
    [cause] = causes(made, [WEIGHTS], {}, **{tag: value})
    assert cause.startswith(expected)


def test_other_packages_and_other_data_are_listed(made: Paths) -> None:
    data = DigestComparison("raw data", "a" * 64, "b" * 64)
    listed = causes(made, [data, WEIGHTS], {"numpy": ("2.4.6", "2.3.0")})
    assert listed == ["the data is not the same", "another numpy: 2.4.6 then, 2.3.0 now"]


def test_cause_is_unknown_when_no_recorded_property_differs(made: Paths) -> None:
    [cause] = causes(made, [WEIGHTS], {})
    assert cause == "unknown: everything that was recorded of the machine is the same here"


def test_equal_weights_exclude_the_machine_that_trained(made: Paths) -> None:
    same = DigestComparison("weights", "a" * 64, "a" * 64)
    assert (
        causes(made, [same, PREDICTIONS], {})[0] == "not the machine that trained: the weights are the same"
    )
