"""Make the pictures of the pages in docs/images: `make screenshots`.

It clones this repository, runs the pipeline there with several sets of parameters, serves MLflow and Prefect,
and opens their pages in a headless browser with an empty profile, as a new user does. A page that lacks what
it has to show is an error. `--project FOLDER` makes the clone there and keeps it, or uses one that is there.
"""

import argparse
import math
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests

from lenet5.core.errors import Refused
from lenet5.stages import params
from tools import browser
from tools.browser import Page

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BIN = ROOT / ".venv" / "bin"
TRIED: tuple[Mapping[str, object], ...] = (
    {},
    {"train.kernel_size": 5, "preprocess.padding": 2},
)
"""Parameters of each run, by dotted name; the first one becomes the champion."""
WIDTH, HEIGHT = 1440, 860


@dataclass(frozen=True)
class Servers:
    """The servers of `lenet5 ui`, and `lenet5 serve`."""

    runs: str
    """The links that `lenet5 ui` prints."""
    versions: str
    champion: str
    prefect: str
    service: str
    """The address of `lenet5 serve`."""

    @property
    def mlflow(self) -> str:
        """Return the address of MLflow."""
        return self.runs.partition("/#")[0]


def main() -> None:
    """Make all pictures, or those that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"one of {', '.join(PICTURES)}")
    parser.add_argument("--project", type=Path, help="a checkout with a champion and other versions")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where the pictures go")
    arguments = parser.parse_args()
    if unknown := set(arguments.pictures) - set(PICTURES):
        parser.error(f"no picture {', '.join(sorted(unknown))}")
    arguments.images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lenet5-screenshots-") as temporary:
        project = arguments.project or Path(temporary) / "lenet5"
        if not project.exists():
            _finish(project)
        with _serving(project) as servers:
            _run(project, "lenet5", "deploy", environment={"PREFECT_API_URL": f"{servers.prefect}/api"})
            for name in arguments.pictures or PICTURES:
                with browser.fresh() as page:
                    PICTURES[name](page.resize(WIDTH, HEIGHT), servers, project)
                    page.settle().save(arguments.images / f"{name}.png")
                print(arguments.images / f"{name}.png", flush=True)


def _finish(folder: Path) -> None:
    """Clone this repository and run the pipeline with each set of parameters."""
    _run(ROOT, "git", "clone", "--quiet", str(ROOT), str(folder))
    if (cache := ROOT / ".dvc" / "cache").exists():  # what was computed here is not computed again
        _run(folder, "dvc", "cache", "dir", "--local", str(cache))
    default = (folder / "params.yaml").read_text()
    for values in TRIED:
        print(f"lenet5 run with {dict(values) or 'the default parameters'}", flush=True)
        (folder / "params.yaml").write_text(default)
        params.write(folder / "params.yaml", values)
        _run(folder, "lenet5", "run", accept=(0, Refused.exit_code))


@contextmanager
def _serving(project: Path) -> Iterator[Servers]:
    """Run `lenet5 ui` and `lenet5 serve` for the block."""
    ports = [f"--{name}-port={_free_port()}" for name in ("mlflow", "prefect", "tensorboard")]
    with subprocess.Popen(
        [str(BIN / "lenet5"), "ui", *ports],
        cwd=project,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        addresses = []
        for line in process.stdout:
            addresses += [word for word in line.split() if word.startswith("http")]
            if "Ctrl-C" in line:
                break
        try:
            runs, versions, champion, prefect, _ = addresses
            with _service(project) as service:
                yield Servers(runs, versions, champion, prefect.removesuffix("/runs"), service)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _run(
    folder: Path, *command: str, accept: tuple[int, ...] = (0,), environment: Mapping[str, str] | None = None
) -> None:
    """Run a command of the environment; another exit code than the accepted ones is an error."""
    program = str(BIN / command[0]) if (BIN / command[0]).exists() else command[0]
    ended = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=_environment() | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode not in accept:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "PREFECT_", "LENET5_"))
    }
    return kept | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "TZ": "UTC"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def mlflow_runs(page: Page, servers: Servers, _project: Path) -> None:
    """The list of runs, at the link that `lenet5 ui` prints."""
    page.resize(1900, 700).open(servers.runs)
    page.wait_for("default parameters", "kernel 5", "gate.decision", "error_percent")
    page.wait_for("reject against version 1|keep against version 1|promote against version 1")


def mlflow_charts(page: Page, servers: Servers, _project: Path) -> None:
    """The charts of the same view."""
    page.resize(1900, 1200).open(f"{servers.runs}&compareRunsMode=CHART")
    page.wait_for("Results on the test images", "Training, by epoch", "evaluate.error_percent")


def mlflow_version(page: Page, servers: Servers, _project: Path) -> None:
    """The page of the champion, at the link that `lenet5 ui` prints."""
    page.open(servers.champion).wait_for("Gate: promote", "Report page", "@.champion")


def mlflow_report(page: Page, servers: Servers, _project: Path) -> None:
    """The report page, one click from the version."""
    page.open(servers.champion).wait_for("Report page").click("Report page").wait_for("results/report.html")


def mlflow_lineage(page: Page, servers: Servers, _project: Path) -> None:
    """Where the champion was made, in its description."""
    page.open(servers.champion).wait_for("Where it was made")
    page.evaluate(
        "[...document.querySelectorAll('h2')].find((each) => each.innerText === 'Where it was made')"
        ".scrollIntoView()"
    )


def mlflow_history(page: Page, servers: Servers, _project: Path) -> None:
    """The log of promotions."""
    page.open(servers.versions.replace("/models/lenet5-mnist", "/models/lenet5-mnist.history"))
    page.wait_for("These versions are not models", "Version 1")


def prefect_run(page: Page, servers: Servers, _project: Path) -> None:
    """The newest flow run."""
    [newest, *_] = _completed_flow_runs(servers)
    page.open(f"{servers.prefect}/runs/flow-run/{newest['id']}")
    page.wait_for(newest["name"].partition(" at ")[0], "Logs", "Task Runs")


def prefect_report(page: Page, servers: Servers, _project: Path) -> None:
    """The report of the newest flow run."""
    page.resize(WIDTH, 1100).open(f"{servers.prefect}/artifacts/key/promotion-lenet5-mnist")
    page.wait_for("Created promotion-lenet5-mnist")
    page.open(page.evaluate("document.querySelector('a[href*=\"/artifacts/artifact/\"]').href"))
    page.wait_for("error rate on the test images", "The gate", "report page")


def prefect_deployments(page: Page, servers: Servers, _project: Path) -> None:
    """The deployments."""
    page.open(f"{servers.prefect}/deployments")
    page.wait_for("nightly", "stage-on-gpu", "trials-on-cpu", "cleanup-on-cpu")


def report(page: Page, _servers: Servers, project: Path) -> None:
    """`lenet5 report`: the page about the champion."""
    _run(project, "lenet5", "report", "@champion", "--output", str(project / "report-of-champion.html"))
    page.resize(1174, 900).open(f"file://{quote(str(project / 'report-of-champion.html'))}").wait_for(
        "Report on"
    )


def validation(page: Page, _servers: Servers, project: Path) -> None:
    """The pictures of the data checks."""
    page.resize(WIDTH, 920).open(f"file://{quote(str(project / 'reports/validation/summary.html'))}")
    page.wait_for("checks")


def serving_page(page: Page, servers: Servers, _project: Path) -> None:
    """The page of `lenet5 serve`, after a digit was drawn on it."""
    _draw(page.resize(1280, 1240), servers.service)


def serving_phone(page: Page, servers: Servers, _project: Path) -> None:
    """The same on a phone at night."""
    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    _draw(page.resize(390, 1100, dark=True, mobile=True), servers.service)


def _draw(page: Page, address: str) -> None:
    """Draw a nine that is open like a four, and wait for its explanation."""
    page.open(address).wait_for("lenet5-mnist, version")
    left, top, side = page.evaluate(
        "(({x, y, width}) => [x, y, width])(document.querySelector('#pad').getBoundingClientRect())"
    )
    angles = (math.radians(-90 - 270 * step / 24) for step in range(25))
    bow = [(0.5 + 0.18 * math.cos(angle), 0.36 + 0.18 * math.sin(angle)) for angle in angles]
    leg = [(0.68 - 0.006 * step, 0.36 + 0.046 * step) for step in range(1, 11)]
    page.drag([(left + x * side, top + y * side) for x, y in [*bow, *leg]])
    page.wait_for("feature maps of", "moves over the picture")  # of the occlusion map, which is last
    if (read := page.evaluate("document.querySelector('#class').textContent")) not in ("4", "9"):
        raise RuntimeError(f"the champion reads the open nine as {read}")


@contextmanager
def _service(project: Path) -> Iterator[str]:
    """Run `lenet5 serve` for the block."""
    port = _free_port()
    command = [str(BIN / "lenet5"), "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=project, env=_environment(), stdout=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(f"{address}/health/ready", process)
            yield address
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise TimeoutError("the service does not answer")


def _completed_flow_runs(servers: Servers) -> list[dict[str, str]]:
    answer = requests.post(
        f"{servers.prefect}/api/flow_runs/filter",
        json={"sort": "START_TIME_DESC", "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}},
        timeout=60,
    )
    answer.raise_for_status()
    return list(answer.json())


PICTURES = {
    made.__name__.replace("_", "-"): made
    for made in (
        *(mlflow_runs, mlflow_charts, mlflow_version, mlflow_report, mlflow_lineage, mlflow_history),
        *(prefect_run, prefect_report, prefect_deployments, report, validation),
        *(serving_page, serving_phone),
    )
}
"""The functions that open a page, by the name of its picture."""

if __name__ == "__main__":
    main()
