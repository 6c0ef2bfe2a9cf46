"""What DVC shows: short metrics, plots that need no network, and experiments that fit a terminal."""

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lenet5.core.results import Evaluation
from tests.conftest import REPOSITORY, Project
from tools import browser
from tools.plots_page import PAGE, SCRIPTS

CHROMIUM = browser.executable()
WIDTH = 120
"""Columns of a terminal."""
SERIES = 6
"""Plots that `dvc.yaml` draws from tables; one for each picture of reports/figures comes on top."""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="this machine has no Chromium")


def page_without_network(page: Path, profile: Path) -> str:
    """Open a page in a browser that reaches no host, and return its body once everything is drawn."""
    assert CHROMIUM
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    no_network = ["--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND"]
    shown = subprocess.run(
        [CHROMIUM, *options, *no_network, "--virtual-time-budget=30000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return shown.stdout.rpartition('<p id="drawn">')[2]  # the scripts contain <body>, too


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    return finished.copy(tmp_path)


@pytest.fixture
def plots(project: Project) -> Path:
    """The page of ``dvc plots show``."""
    project.run("dvc", "plots", "show")
    return project.root / "dvc_plots" / "index.html"


@pytest.mark.integration
def test_metrics_are_figures_and_each_has_one_name(finished: Project) -> None:
    listed = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["metrics"]
    assert listed == ["metrics/evaluation.json", "metrics/training.json"]
    metrics = [json.loads((finished.root / name).read_text()) for name in listed]
    names = [name for each in metrics for name in each]
    assert len(names) == len(set(names))
    assert all(type(value) in (int, float) for each in metrics for value in each.values())
    assert set(metrics[0]) == set(Evaluation.model_fields)
    assert {f"metrics/{file.name}" for file in (finished.root / "metrics").glob("*.json")} == set(listed)


@pytest.mark.integration
def test_experiments_fit_a_terminal_and_name_their_parameters(project: Project) -> None:
    project.run("dvc", "exp", "run", "--name", "bins", "-S", "evaluate.calibration_bins=5")
    shown = project.run("lenet5", "experiments")
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert re.search(r"│   bins +│ 0\.\d{4} .*│ calibration_bins 5 +│", shown)
    rows = {row["name"]: row for row in json.loads(project.run("lenet5", "experiments", "--json"))}
    evaluation = json.loads(project.paths.evaluation.read_text())
    assert rows["bins"]["metrics"].items() >= evaluation.items()
    assert rows["bins"]["base"] in rows
    differences = project.run("dvc", "metrics", "diff")
    assert max(map(len, differences.splitlines())) <= WIDTH


@pytest.mark.integration
@needs_browser
def test_every_plot_is_drawn_without_a_network(project: Project, plots: Path, tmp_path: Path) -> None:
    expected = SERIES + len(list(project.paths.figures.glob("*.png")))
    content = page_without_network(plots, tmp_path / "profile")
    assert f"{expected} of {expected} plots are drawn." in content
    assert len(re.findall("<canvas", content)) >= SERIES
    assert "cannot be" not in content


@pytest.mark.integration
@needs_browser
def test_plot_that_cannot_be_drawn_says_so(plots: Path, tmp_path: Path) -> None:
    text = plots.read_text()
    broken = text.replace('"mark": "rule"', '"mark": "no such mark"', 1)
    assert broken != text
    plots.write_text(broken)
    picture = next((plots.parent / "static").glob("*.png"))
    picture.unlink()
    content = page_without_network(plots, tmp_path / "profile")
    drawn, of_all = map(int, re.findall(r"(\d+) of (\d+) plots are drawn\.", content)[0])
    assert of_all - drawn == 2
    assert "This plot cannot be drawn: " in content
    assert "This image cannot be loaded: " in content


def test_page_of_plots_has_the_expected_scripts_and_their_licences() -> None:
    page = PAGE.read_text()
    assert not re.search(r'<(script|link)[^>]* (src|href)="', page)
    vendored = re.findall(r"<!-- (\S+@\S+)\n(.*?)\n-->\n<script>(.*?)</script>", page, re.DOTALL)
    assert {name: hashlib.sha256(script.encode()).hexdigest() for name, _, script in vendored} == SCRIPTS
    assert all("Redistribution and use in source and binary forms" in licence for _, licence, _ in vendored)
