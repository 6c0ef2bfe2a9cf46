"""The links that `lenet5 ui` prints, opened in a browser with an empty profile."""

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import BIN, Project, free_port
from tools import browser

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(browser.executable() is None, reason="this machine has no Chromium"),
]


@pytest.fixture(scope="module")
def links(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses in the output of `lenet5 ui`: runs, versions, champion, Prefect, TensorBoard."""
    ports = [f"--{name}-port={free_port()}" for name in ("mlflow", "prefect", "tensorboard")]
    with subprocess.Popen(
        [str(BIN / "lenet5"), "ui", *ports],
        cwd=finished.copy(tmp_path_factory.mktemp("ui")).root,
        env=finished.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as ui:
        assert ui.stdout
        found = []
        for line in ui.stdout:
            found += [word for word in line.split() if word.startswith("http")]
            if "Ctrl-C" in line:
                break
        yield found
        ui.send_signal(signal.SIGINT)


def test_runs_show_what_matters_first(links: list[str]) -> None:
    with browser.fresh() as page:
        page.resize(1900, 700).open(links[0])
        page.wait_for(
            "epochs 2", "gate.decision", "changed_parameters", "evaluate.error_percent", "promote: "
        )
        assert "Model registry" in page.text(), "the menu of model training"


def test_the_report_page_is_one_click_from_the_champion(links: list[str]) -> None:
    with browser.fresh() as page:
        page.resize(1440, 860).open(links[2]).wait_for("Gate: promote", "@.champion")
        page.click("Report page").wait_for("results/report.html", "Model registry")


def test_no_dialog_covers_the_registry(links: list[str]) -> None:
    server = links[0].partition("/#")[0]
    with browser.fresh() as page:
        page.resize(1440, 860).open(f"{server}/#/models").wait_for("Registered Models", "Model registry")
        page.settle()
        assert "new Model Registry UI" not in page.text()
        assert "Ask a question" not in page.text()
