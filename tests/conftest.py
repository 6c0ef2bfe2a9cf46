"""Fixtures: a small project with real digits in a temporary folder, commands that run in it, and servers."""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from filelock import FileLock
from numpy.typing import NDArray
from ruamel.yaml import YAML

from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.system import settings
from lenet5.system.state import LocalState
from lenet5.tracking import embedded_store
from tests.postgres import NewDatabase, postgresql

pytest_plugins = ["tests.selection", "tests.training_fixtures"]

# a shell starts background commands with SIGINT ignored, and the processes of the tests would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.update(engine.ENGINE_FLAGS)  # the stages set them too; they must be set before the first operation

REPOSITORY = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
# files of a clone that the stages read; the package itself is the installed one
CLONED = (
    "dvc.yaml",
    "data/card.yaml",
    "params.yaml",
    "prefect.yaml",
    "sweep.yaml",
    "requirements.lock",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots.html",
    *(f".dvc/plots/{name}.json" for name in ("calibration", "classes", "corruptions", "slices")),
)
TRAIN, TEST = 3000, 1000
FIRST_RUN = "first-run.log"
FINISHED = "PYTEST_FINISHED_PROJECT"
"""Variable with the folder of ``finished``, for runs of pytest that share it."""
CACHES = (".git", ".dvc/tmp", ".lenet5/dvc", ".lenet5/models")
"""Folders of ``finished`` in which a command that only reads may write."""
KEPT = (
    "LANG",
    "PYTHONDONTWRITEBYTECODE",
    "OPENBLAS_NUM_THREADS",
    "COVERAGE_PROCESS_CONFIG",
    "COVERAGE_PROCESS_START",
)
"""Variables that commands in a project inherit. The last two let `make coverage` measure these commands."""
IN_PROCESS = {
    *("versions", "status", "history", "lineage", "bom", "diff", "promote", "rollback", "predict", "doctor"),
    *("report", "compare", "explain", "traffic", "batch"),
}
"""Commands of ``lenet5`` that tests can run in their own process."""

Arrays = dict[str, NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Restore the state of the process after each test, so that no test depends on an earlier one."""
    with _as_before():
        yield


@contextmanager
def _as_before() -> Iterator[None]:
    """Restore the environment, the working folder, signal handlers and the package's logger at the end."""
    environment, folder = dict(os.environ), Path.cwd()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    log = logging.getLogger("lenet5")
    logged = (log.handlers, log.propagate, log.level)
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        log.handlers, log.propagate = logged[:2]
        log.setLevel(logged[2])


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Limit TensorFlow to one thread, as the stages do. This must come before the first operation."""
    if sys.modules.get("keras"):
        from lenet5.model import backend

        backend.configure(1)


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the servers that the developer's own environment names."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "PREFECT_API_URL", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def digits() -> Arrays:
    """A random sample of MNIST, with the keys of ``ingest.sha256``."""
    return real_digits()


def real_digits() -> Arrays:
    arrays: Arrays = {}
    for split, size in (("train", TRAIN), ("test", TEST)):
        images, labels = (decode(item) for item in MNIST_FILES if item.key.startswith(split))
        some = np.sort(np.random.default_rng(0).permutation(len(labels))[:size])
        arrays |= {f"{split}_images": images[some], f"{split}_labels": labels[some]}
    return arrays


def decode(item: Any) -> NDArray[np.uint8]:
    content = gzip.decompress((REPOSITORY / "data/mnist" / f"{item.file}.gz").read_bytes())
    return idx.decode(content, item.file, item.dimensions)


def flip_a_bit(path: Path, at: int) -> None:
    """Damage one byte of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The database of an empty embedded store. A copy of it saves a test the forty migrations."""
    from lenet5.tracking import store  # MLflow takes seconds to import

    base = tmp_path_factory.getbasetemp()
    paths = Paths((base if worker_id == "master" else base.parent) / "empty")
    with FileLock(f"{paths.root}.lock"):  # the first process makes it for all
        if not paths.root.exists():
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("MLFLOW_TRACKING_URI", settings.embedded(paths)["MLFLOW_TRACKING_URI"])
                store.connect(paths)
    return LocalState(paths.root).mlflow_database


@dataclass(frozen=True)
class Project:
    """A checkout in a temporary folder."""

    root: Path
    home: Path
    """The user's home folder. It is empty."""

    @property
    def paths(self) -> Paths:
        return Paths(self.root)

    def command(
        self,
        *words: str,
        environment: dict[str, str] | None = None,
        timeout: float = 400,
        process: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment in the project, and return its exit code and output.

        A command of ``lenet5`` that only asks a registry or moves an alias runs in this process, which has
        imported MLflow already. With ``process=True`` it runs in a process of its own, as every other command
        does.
        """
        if words[0] == "lenet5" and IN_PROCESS & set(words[1:2]) and not process:
            return self.call(*words, environment=environment)
        variables = self.environment() | (environment or {})
        return subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.root,
            env=variables,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def call(
        self, *words: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of ``lenet5`` in this process, and return its exit code and output."""
        from lenet5 import cli

        variables = self.environment() | (environment or {})
        output, errors = io.StringIO(), io.StringIO()
        code: object = 0
        with (
            _as_before(),
            contextlib.chdir(self.root),
            redirect_stdout(output),
            redirect_stderr(errors),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", list(words))
            os.environ.clear()
            os.environ.update(variables)
            try:
                cli.main()
            except SystemExit as end:
                code = end.code or 0
        assert isinstance(code, int), code
        return subprocess.CompletedProcess(list(words), code, output.getvalue(), errors.getvalue())

    def run(self, *words: str, environment: dict[str, str] | None = None) -> str:
        """Run a command that must succeed, and return its standard output."""
        done = self.command(*words, environment=environment)
        assert done.returncode == 0, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The environment of a user whose home folder is empty."""
        kept = {name: value for name, value in os.environ.items() if name in KEPT}
        # without this variable, a bare `dvc` keeps its site cache in /var/tmp
        site = {"DVC_SITE_CACHE_DIR": str(self.root / ".lenet5/dvc"), "DVC_NO_ANALYTICS": "1"}
        return kept | site | {"HOME": str(self.home), "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin"}

    def processes(self) -> list[str]:
        """The command lines of the processes that work in this checkout or name it."""
        return [
            " ".join(process.info["cmdline"] or ())
            for process in psutil.process_iter(["cwd", "cmdline"])
            if (process.info["cwd"] or "").startswith(str(self.root))
            or any(str(self.root) in word for word in process.info["cmdline"] or ())
        ]

    def set_params(self, **values: Any) -> None:
        """Edit ``params.yaml`` as a person would: ``set_params(**{"train.epochs": 3})``."""
        yaml = YAML()
        content = yaml.load(self.paths.params.read_text())
        for name, value in values.items():
            *sections, key = name.split(".")
            section = content
            for part in sections:
                section = section[part]
            section[key] = value
        with self.paths.params.open("w") as file:
            yaml.dump(content, file)

    def put_source(self, arrays: Arrays, *, pin: bool = True) -> None:
        """Write IDX files as ``data/mnist`` holds them, and pin them in ``params.yaml``."""
        for item in MNIST_FILES:
            content = idx.encode(arrays[item.key])
            path = self.root / "data/mnist" / f"{item.file}.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
            if pin:
                self.set_params(**{f"ingest.sha256.{item.key}": hashlib.sha256(content).hexdigest()})

    def copy(self, folder: Path) -> "Project":
        """Copy the project, with its cache, outputs and state."""
        copied = Project(folder / "project", folder / "home")
        shutil.copytree(self.root, copied.root, symlinks=True)
        copied.home.mkdir()
        return copied


def make_project(folder: Path, digits: Arrays, **params: Any) -> Project:
    """Make a committed checkout with a few thousand digits, a training of seconds, and these parameters."""
    project = Project(folder / "project", folder / "home")
    project.home.mkdir(parents=True)
    for name in CLONED:
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, project.root / name)
    ignored = shutil.ignore_patterns("__pycache__")
    for folder_of_code in ("src", "pipelines"):
        shutil.copytree(REPOSITORY / folder_of_code, project.root / folder_of_code, ignore=ignored)
    project.put_source(digits)
    for name in ("data/card.yaml", "data/reference.json", "data/reference.npz"):
        shutil.copyfile(REPOSITORY / name, project.root / name)
    project.set_params(
        **{
            "preprocess.validation_images": 300,
            "train.batch_size": 32,
            "train.epochs": 2,
            "evaluate.robustness.images": 100,
            "register.floors.accuracy": 0.85,
            "register.floors.worst_class_recall": 0.5,
            "register.ceilings.calibration_error": 0.3,
            "register.floors.mean_corruption_accuracy": 0.2,
            "register.gate.margin": 0.05,  # the interval of a thousand images is wide
            "register.gate.corruption_margin": 0.5,  # models of a few thousand images differ by more
            "register.gate.slice_margin": 0.2,
            **params,
        }
    )
    project.git("init", "--quiet", "--initial-branch=main")
    project.git("add", "--all")
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.invalid")
    project.git(*identity, "commit", "--quiet", "--message", "A small project")
    return project


def clone(project: Project, folder: Path) -> Project:
    """Clone a project: without cache, outputs and state."""
    folder.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(project.root), str(folder / "project")], check=True)
    (folder / "home").mkdir()
    return Project(folder / "project", folder / "home")


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A new checkout, in which nothing was run. It is shared: work in a ``copy``.

    It takes no fixture that a package of tests may replace by its own.
    """
    return make_project(tmp_path_factory.mktemp("new"), real_digits())


@pytest.fixture
def project(tmp_path: Path, new_project: Project) -> Project:
    """A new checkout, in which nothing was run."""
    return new_project.copy(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A checkout after ``lenet5 run``. It is shared: read it, or work in a ``copy``."""
    folder = tmp_path_factory.getbasetemp() / "finished"
    if worker_id == "master" and FINISHED not in os.environ:
        finish(folder)
        return Project(folder / "project", folder / "home")
    # each process has a copy, since DVC locks a checkout while it works there
    shared = _shared(tmp_path_factory)
    finish(shared)
    shutil.copytree(shared, folder, symlinks=True)
    project = Project(folder / "project", folder / "home")
    embedded_store.prepare(project.paths)  # it rewrites the locations in the store, which is a copy
    return project


@pytest.fixture(autouse=True)
def finished_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something else in the shared project than it found: the next tests read it."""
    if "finished" not in request.fixturenames:
        yield
        return
    root = request.getfixturevalue("finished").root
    before = _file_times(root)
    yield
    after = _file_times(root)
    changed = sorted({path for path, _ in before.items() ^ after.items()})
    assert not changed, f"work in a copy of `finished`: the test wrote {', '.join(changed)}"


def _file_times(root: Path) -> dict[str, tuple[int, int]]:
    """Return size and modification time of each file of a project that is no cache."""
    times = {}
    for folder, folders, names in os.walk(root):
        below = Path(folder).relative_to(root)
        folders[:] = [
            name for name in folders if (below / name).as_posix() not in CACHES and name != "__pycache__"
        ]
        for name in names:
            status = os.lstat(Path(folder, name))
            times[(below / name).as_posix()] = (status.st_size, status.st_mtime_ns)
    return times


@pytest.fixture(autouse=True, scope="session")
def building(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[None]:
    """Build the project of ``finished`` while the first tests run, so that no process waits for it."""
    needed = any("finished" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if worker_id != "gw0" or not needed:
        yield
        return
    script = "import sys, pathlib, tests.conftest; tests.conftest.finish(pathlib.Path(sys.argv[1]))"
    builder = subprocess.Popen(
        [sys.executable, "-c", script, str(_shared(tmp_path_factory))],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # after a failure, `finished` runs it again and shows the error
        start_new_session=True,
    )
    yield
    with suppress(ProcessLookupError):
        os.killpg(builder.pid, signal.SIGKILL)
    builder.wait()


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the original, of which every process of this pytest run makes its copy."""
    return Path(os.environ.get(FINISHED) or tmp_path_factory.getbasetemp().parent / "finished")


def finish(folder: Path) -> None:
    """Make a project and run the pipeline in it, unless another process has done so."""
    with FileLock(folder.with_suffix(".lock")):
        if (folder / FIRST_RUN).exists():
            return
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that failed
        project = make_project(folder, real_digits())
        (folder / FIRST_RUN).write_text(project.run("lenet5", "run"))


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def until(ask: Callable[[], Any], seconds: float, what: str, pause: float = 0.5) -> Any:
    """Call ``ask`` until its result is true, with pauses of so many seconds, and return that result.

    The limit is for an idle machine. While more processes want to run than there are processors, time counts
    less: with four on two processors, half.

    Raises:
        AssertionError: no result was true within the time.
    """
    began = last = time.monotonic()
    left = seconds
    while left > 0:
        if answer := ask():
            return answer
        time.sleep(pause)
        now = time.monotonic()
        left -= (now - last) / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        last = now
    raise AssertionError(
        f"{what}: not within {last - began:.0f} seconds (limit: {seconds:g} on an idle machine)"
    )


Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers on this machine. They end with the test."""
    with servers(tmp_path) as start:
        yield start


@contextmanager
def servers(folder: Path) -> Iterator[Serve]:
    """Start servers that log to ``folder``. They end with the block."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, port: int, probe: str, environment: dict[str, str]) -> str:
        with (folder / f"server-{port}.log").open("wb") as log:
            server = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        running.append(server)
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert server.poll() is None, (folder / f"server-{port}.log").read_text()
            with suppress(requests.RequestException):
                if requests.get(f"{address}{probe}", timeout=2).ok:
                    return address
            time.sleep(0.2)
        raise AssertionError(f"{words} does not answer")

    try:
        yield start
    finally:
        for server in running:
            with suppress(ProcessLookupError):  # it has ended already
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[NewDatabase]:
    """A real PostgreSQL. Each call creates an empty database and returns its URL."""
    with postgresql() as new_database:
        yield new_database


@pytest.fixture(scope="session")
def mlflow_database(postgres: NewDatabase) -> str:
    """The URL of the database of ``mlflow_server``."""
    return postgres()


@pytest.fixture(scope="session")
def mlflow_server(mlflow_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server on PostgreSQL. Tests share it, so each must use its own names."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    with servers(folder) as start:
        yield serve_mlflow(start, mlflow_database, folder / "artifacts")


def serve_mlflow(
    start: Serve, database: str, artifacts: Path | str, environment: dict[str, str] | None = None
) -> str:
    """Start an MLflow server that also serves the artifacts, and return its address."""
    port = free_port()
    return start(
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", database, "--artifacts-destination", str(artifacts)),
        port=port,
        probe="/health",
        environment={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **(environment or {}),
        },
    )
