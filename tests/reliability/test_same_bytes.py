"""What can change the bytes of an output is fixed, recorded with the model, or refused.

``docs/reproducibility.md`` has the same list.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lenet5.core.paths import Paths
from lenet5.model import engine
from tests.conftest import BIN, REPOSITORY, Project
from tests.reliability import harness

pytestmark = pytest.mark.integration

STAGES = ("ingest", "validate", "preprocess", "train", "evaluate")
STYLE = "font.size: 20\naxes.facecolor: black\n"
ALL_CORES = dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "4"
)
NO_INFLUENCE: dict[str, tuple[Mapping[str, str], Sequence[str]]] = {
    "threads": (
        ALL_CORES | {"MKL_NUM_THREADS": "4", "TF_OVERRIDE_GLOBAL_THREADPOOL": "1"},
        ("train", "evaluate"),
    ),
    "engine": (dict.fromkeys(engine.ENGINE_FLAGS, "0"), ("train", "evaluate")),
    "cached-weights": ({"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}, ("train",)),
    "keras": ({"KERAS_MAX_EPOCHS": "1", "KERAS_NNX_ENABLED": "true", "TF_USE_LEGACY_KERAS": "1"}, ("train",)),
    "instruction-set": (
        {
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
            "OPENBLAS_CORETYPE": "Nehalem",
            "ARROW_USER_SIMD_LEVEL": "NONE",
        },
        ("validate", "preprocess", "evaluate"),
    ),
    "libraries": (
        {
            "PANDAS_FUTURE": "upcoming",
            "SCIPY_ARRAY_API": "1",
            "SKLEARN_WARNINGS_AS_ERRORS": "1",
            "ORT_DISABLE_ALL": "1",
            "GX_HOME": "/nowhere",
        },
        ("validate", "preprocess", "evaluate"),
    ),
    "figures": (
        {"MATPLOTLIBRC": "matplotlibrc", "MPLCONFIGDIR": ".", "MPLBACKEND": "nonsense"},
        ("evaluate",),
    ),
    "python": ({"PYTHONHASHSEED": "4711", "PYTHONWARNINGS": "error"}, STAGES[1:]),
    "time-zone": ({"TZ": "Asia/Kathmandu"}, ("validate", "evaluate")),
    "language": (
        {"LC_ALL": "C", "LANG": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        STAGES,
    ),
    "user": ({"USER": "eve", "LOGNAME": "eve", "HOSTNAME": "other", "TMPDIR": "/dev/shm"}, STAGES),
    "network": ({"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}, ("ingest",)),
    "packaging": ({"PIP_USER": "1", "PYTHONNOUSERSITE": "1"}, ("ingest",)),
}
"""Variables by subject, each with a value that would bite, and the stages that could see them."""
RECORDED = {
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_USE_DEEP_CONV2D": "1",
    "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
    "TF_DATA_EXPERIMENT_OPT_IN": "all",
    "ONEDNN_DEFAULT_FPMATH_MODE": "ANY",
    "DNNL_DEFAULT_FPMATH_MODE": "ANY",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "TF_CUDNN_DETERMINISTIC": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "NVIDIA_TF32_OVERRIDE": "0",
}
"""Variables that are part of a training's identity, each with a value that is not the default."""


@pytest.fixture(scope="module")
def shared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the finished project, in which each test runs stages again."""
    copied = finished.copy(tmp_path_factory.mktemp("same-bytes"))
    (copied.root / "matplotlibrc").write_text(STYLE)  # matplotlib also reads it in the working directory
    return copied


def outputs(paths: Paths, stages: Sequence[str]) -> list[Path]:
    recorded = YAML(typ="safe").load(paths.lock)["stages"]
    return [paths.root / out["path"] for stage in stages for out in recorded[stage]["outs"]]


def digests(project: Project, stages: Sequence[str]) -> dict[str, str]:
    """Return the digest of each file that the stages write, by its path in the project."""
    return {
        file.relative_to(project.root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for output in outputs(project.paths, stages)
        for file in ([output] if output.is_file() else sorted(output.rglob("*")))
        if file.is_file()
    }


def run_stages(
    project: Project, stages: Sequence[str], variables: Mapping[str, str], umask: int = 0o022
) -> None:
    """Run stages without DVC. The tracking store is a closed port, as a training must not need it."""
    closed = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    for stage in stages:
        done = subprocess.run(
            [str(BIN / "lenet5"), stage],
            cwd=project.root,
            env=project.environment() | closed | {"DVC_STAGE": stage} | dict(variables),
            capture_output=True,
            text=True,
            errors="replace",
            umask=umask,
            check=False,
        )
        assert done.returncode == 0, f"{stage} with {dict(variables)}:\n{done.stdout}\n{done.stderr}"


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder on tmpfs, where a folder lists its files in another order than on a disk."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("this machine has no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_the_machine_of_a_stranger_changes_no_byte(finished: Project, memory_folder: Path) -> None:
    """Variables, creation mask and file system, all at once. The next tests say which one it was."""
    copied = finished.copy(memory_folder)
    (copied.root / "matplotlibrc").write_text(STYLE)
    everything = {name: value for variables, _ in NO_INFLUENCE.values() for name, value in variables.items()}
    run_stages(copied, STAGES, everything, umask=0o077)
    assert digests(copied, STAGES) == digests(finished, STAGES)


@pytest.mark.long
def test_another_file_system_changes_no_byte(finished: Project, memory_folder: Path) -> None:
    copied = finished.copy(memory_folder)
    run_stages(copied, STAGES[:3], {})
    assert digests(copied, STAGES[:3]) == digests(finished, STAGES[:3])


@pytest.mark.long
@pytest.mark.parametrize("subject", NO_INFLUENCE)
def test_a_variable_changes_no_byte(shared: Project, finished: Project, subject: str) -> None:
    variables, stages = NO_INFLUENCE[subject]
    run_stages(shared, stages, variables)
    assert digests(shared, stages) == digests(finished, stages)


@pytest.mark.parametrize("name", RECORDED)
def test_a_variable_of_the_engine_is_recorded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    before = engine.variables()
    monkeypatch.setenv(name, RECORDED[name])
    assert engine.variables() == sorted([*before, f"{name}={RECORDED[name]}"])


@pytest.mark.long
def test_what_is_recorded_bites_and_the_evaluation_stays_the_same(shared: Project, finished: Project) -> None:
    run_stages(shared, ("evaluate",), RECORDED | {"KERAS_BACKEND": "torch"})
    assert digests(shared, ("evaluate",)) == digests(finished, ("evaluate",))
    run_stages(shared, ("train",), {"TF_XLA_FLAGS": RECORDED["TF_XLA_FLAGS"]})
    then, now = digests(finished, ("train",)), digests(shared, ("train",))
    assert now["models/lenet5.keras"] != then["models/lenet5.keras"], "the variable has lost its influence"
    assert now["models/lineage.json"] != then["models/lineage.json"]
    shutil.rmtree(shared.root)
    shutil.copytree(finished.root, shared.root, symlinks=True)
    (shared.root / "matplotlibrc").write_text(STYLE)


@pytest.mark.slow  # a process imports TensorFlow's dependencies
@pytest.mark.parametrize(
    ("stage", "variable"),
    [("train", "KERAS_BACKEND=torch"), ("train", "PYTHONOPTIMIZE=2"), ("evaluate", "PYTHONOPTIMIZE=2")],
)
def test_what_cannot_be_fixed_is_refused(shared: Project, stage: str, variable: str) -> None:
    name, _, value = variable.partition("=")
    refused = shared.command("lenet5", stage, environment={name: value})
    assert refused.returncode == 2
    assert variable in refused.stderr
    harness.require_no_trace(refused.stderr)


@pytest.mark.parametrize(
    "name",
    sorted(
        {*RECORDED, "KERAS_BACKEND", "PYTHONOPTIMIZE", *engine.ENGINE_FLAGS}
        | {name for each, _ in NO_INFLUENCE.values() for name in each}
    ),
)
def test_every_variable_of_the_list_is_documented(name: str) -> None:
    assert f"`{name}`" in (REPOSITORY / "docs/reproducibility.md").read_text()
