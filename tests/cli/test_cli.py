"""The command line as a user sees it: help, errors, exit codes and answers."""

import json
import re
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image
from ruamel.yaml import YAML
from typer.main import get_command
from typer.testing import CliRunner

from lenet5.cli import app
from tests.conftest import BIN, REPOSITORY, Arrays, Project, free_port


def test_help_names_every_command_and_the_exit_codes() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    models = ("versions", "promote", "rollback", "history", "lineage", "bom", "diff", "reproduce", "predict")
    for command in ("run", "status", "ui", "env", *models):
        assert re.search(rf"\b{command}\b", shown)
    for stage in ("ingest", "validate", "preprocess", "train", "evaluate", "register"):
        assert re.search(rf"\b{stage}\b", shown)
    assert "Exit codes: 0 success" in shown


@pytest.mark.parametrize(
    "command", [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
)
def test_help_of_a_command_describes_it_and_every_option(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert re.search(r"^ Needs: \w+", result.output, re.MULTILINE), "what the command needs"
    assert re.search(r"^ Next: \w+", result.output, re.MULTILINE), "what to do after it"
    for line in result.output.splitlines():
        if option := re.match(r"│ .*?(--[a-z-]+)", line):
            assert re.search(r"[A-Z].*[.]|Show this message", line), option[1]


GROUP: Any = get_command(app)
COMMANDS = [
    *((name,) for name in GROUP.commands if name != "data"),
    *(("data", name) for name in GROUP.commands["data"].commands),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_a_command_has_an_example_that_can_be_typed(words: tuple[str, ...]) -> None:
    command = GROUP
    for word in words:
        command = command.commands[word]
    if words == ("env",):
        assert 'eval "$(lenet5 env)"' in command.help
        return
    example = re.search(r"Example: `lenet5 (.+)`", command.help)
    assert example, command.help
    typed = shlex.split(re.split(r" (?:>|&&) ", example[1])[0])
    assert tuple(typed[: len(words)]) == words
    command.make_context(
        words[-1], typed[len(words) :]
    )  # raises an error for an unknown option or a bad value


def test_help_has_the_stages_in_the_order_of_the_graph() -> None:
    lines = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.splitlines()
    panel = lines[next(number for number, line in enumerate(lines) if "Stages" in line) + 1 :]
    graph = list(YAML(typ="safe").load(REPOSITORY / "dvc.yaml")["stages"])
    assert [line.split()[1] for line in panel[: len(graph)]] == graph


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (("rn",), "Did you mean 'run'?"),
        (("run", "--force-stage", "trian"), "did you mean train?"),
        (("data", "shw"), "Did you mean 'show'?"),
        (("data", "init", "sklearn:digits", "--yes", "--format", "foldr"), "did you mean folder?"),
        (("lineage", "champoin"), "did you mean @champion?"),
    ],
)
def test_a_word_with_a_slip_is_answered_with_the_right_one(
    finished: Project, words: tuple[str, ...], question: str
) -> None:
    done = finished.call("lenet5", *words)
    assert done.returncode == 2
    assert question in done.stderr


def test_a_parameter_with_a_slip_is_answered_with_the_right_one(project: Project) -> None:
    text = project.paths.params.read_text()
    project.paths.params.write_text(text.replace("learning_rate:", "learnin_rate:"))
    done = project.call("lenet5", "preprocess")
    assert done.returncode == 2
    assert "did you mean learning_rate?" in done.stderr


def test_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == version("lenet5")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['lenet5', '--help']\n"
        "from lenet5 import cli\n"
        "try: cli.main()\n"
        "except SystemExit: print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    last = loaded.stdout.strip().splitlines()[-1].split()
    assert not {"tensorflow", "mlflow", "prefect", "pandas", "numpy", "great_expectations"} & set(last)


def test_a_folder_outside_a_checkout_is_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "lenet5"), "versions"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "This is not inside a checkout of the project." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_parameter_is_an_error_before_anything_runs(project: Project) -> None:
    project.set_params(**{"train.epochs": 0})
    done = project.call("lenet5", "ingest")
    assert done.returncode == 2
    assert "train.epochs" in done.stderr
    assert not project.paths.raw.exists()


def test_brackets_in_an_error_are_shown_as_they_are(project: Project) -> None:
    project.set_params(**{"ingest.source": "no[/such]folder[red]"})
    done = project.call("lenet5", "ingest")
    assert done.returncode == 4
    assert "no[/such]folder[red]" in done.stderr


def test_before_the_first_run_every_command_names_the_next_step(project: Project) -> None:
    assert "`lenet5 run` makes one" in project.run("lenet5", "versions")
    assert json.loads(project.run("lenet5", "versions", "--json")) == []
    promoted = project.command("lenet5", "promote")
    assert promoted.returncode == 2
    assert "`lenet5 run` makes one" in promoted.stderr
    status = json.loads(project.run("lenet5", "status", "--json"))
    assert status["champion"] is None
    assert status["stages"]["to run"][0] == "ingest"


def test_status_of_a_finished_project(finished: Project) -> None:
    status = json.loads(finished.run("lenet5", "status", "--json"))
    assert status["stages"] == {"to run": []}
    assert status["champion"]["version"] == 1
    assert status["champion"]["accuracy"] > 0.8
    assert status["challenger"] is None
    assert "champion" in finished.run("lenet5", "status")


def test_a_stage_run_by_hand_points_to_dvc(project: Project) -> None:
    assert "Next: `dvc repro`" in project.run("lenet5", "ingest")


def test_predict_reads_images_of_any_size(finished: Project, digits: Arrays, tmp_path: Path) -> None:
    files = []
    for index in range(20):
        picture = Image.fromarray(255 - digits["test_images"][index]).resize((300, 300))
        files.append(tmp_path / f"{index}.{'png' if index % 2 else 'jpg'}")
        picture.save(files[-1])
    answers = json.loads(finished.run("lenet5", "predict", "--json", *map(str, files)))
    right = [a["class"] == str(digits["test_labels"][i]) for i, a in enumerate(answers)]
    assert sum(right) >= 15  # the small project's model is right in nine of ten
    assert answers[0]["version"] == 1
    assert "probability" in finished.run("lenet5", "predict", str(files[0]))


@pytest.mark.parametrize(
    ("content", "message"), [(b"no picture", "cannot be read"), (None, "cannot be read")]
)
def test_predict_refuses_a_file_that_is_not_an_image(
    finished: Project, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "some.png"
    if content:
        file.write_bytes(content)
    done = finished.command("lenet5", "predict", str(file))
    assert done.returncode == 4
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_ui_serves_all_and_leaves_no_process(finished: Project, tmp_path: Path) -> None:
    ports = {f"--{name}-port": str(free_port()) for name in ("mlflow", "prefect", "tensorboard")}
    ui = subprocess.Popen(
        [str(BIN / "lenet5"), "ui", *(word for pair in ports.items() for word in pair)],
        cwd=finished.copy(tmp_path).root,
        env=finished.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with ui:
        assert ui.stdout is not None
        for line in ui.stdout:
            if "Ctrl-C" in line:
                break
        for port in ports.values():
            assert "<html" in requests.get(f"http://127.0.0.1:{port}/", timeout=30).text.lower()
        mlflow = ports["--mlflow-port"]
        taken = finished.command("lenet5", "ui", "--mlflow-port", mlflow)
        assert taken.returncode == 2
        assert f"Port {mlflow} is in use." in taken.stderr
        ui.send_signal(signal.SIGTERM)
        assert ui.wait(timeout=60) == 0
    for port in ports.values():
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)


@pytest.mark.parametrize(
    ("words", "message", "command"),
    [
        (("ui", "--mlflow-port", "99999"), "less than or equal to 65535", "lenet5 ui"),
        (("ui", "--prefect-port", "0"), "greater than or equal to 1", "lenet5 ui"),
        (("rollback",), "Missing option '--reason'", "lenet5 rollback"),
        (("predict",), "Missing argument", "lenet5 predict"),
        (("nonsense",), "No such command 'nonsense'", "lenet5"),
        (("--nonsense",), "No such option: --nonsense", "lenet5"),
    ],
)
def test_wrong_arguments_are_a_usage_error(
    finished: Project, words: tuple[str, ...], message: str, command: str
) -> None:
    done = finished.call("lenet5", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr.splitlines()[0]
    assert f"  fix:      `{command} --help` describes the command" in done.stderr.splitlines()


def test_without_a_command_the_help_is_shown() -> None:
    done = subprocess.run([str(BIN / "lenet5")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Usage: lenet5 [OPTIONS] COMMAND" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("uri", ["foo://bar", "some/folder"])
def test_an_address_of_no_known_store_is_a_usage_error(finished: Project, uri: str) -> None:
    done = finished.command("lenet5", "versions", environment={"MLFLOW_TRACKING_URI": uri})
    assert done.returncode == 2
    assert uri in done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_variable_counts_as_unset(finished: Project) -> None:
    empty = {"MLFLOW_TRACKING_URI": "", "PREFECT_API_URL": ""}
    found = json.loads(finished.run("lenet5", "versions", "--json", environment=empty))
    assert [version["aliases"] for version in found] == [["champion"]]
    assert not (finished.root / "mlflow.db").exists()


@pytest.mark.integration
def test_env_exports_the_state_to_other_tools(finished: Project) -> None:
    exports = finished.run("lenet5", "env")
    client = "import mlflow; print([each.name for each in mlflow.search_experiments()])"
    script = f"{exports}\npython -c '{client}'"
    done = subprocess.run(
        ["bash", "-c", script], env=finished.environment(), capture_output=True, text=True, check=True
    )
    assert "lenet5-mnist" in done.stdout


def test_settings_are_shown_with_their_origin(project: Project) -> None:
    assigned = "LENET5_TIMEZONE=Europe/Paris\nAWS_SECRET_ACCESS_KEY=hidden\n"  # pragma: allowlist secret
    (project.root / ".env").write_text(assigned)
    environment = {"LENET5_GPUS": "4"}
    shown = json.loads(project.run("lenet5", "status", "--settings", "--json", environment=environment))
    assert shown["LENET5_GPUS"] == {"value": "4", "from": "environment"}
    assert shown["LENET5_TIMEZONE"] == {"value": "Europe/Paris", "from": ".env"}
    assert shown["LENET5_RUNS"] == {"value": "2", "from": "default"}
    assert shown["MLFLOW_TRACKING_URI"]["from"] == "default"
    assert shown["AWS_SECRET_ACCESS_KEY"] == {"value": "********", "from": ".env"}
    exported = project.run("lenet5", "env")
    assert "export LENET5_TIMEZONE=Europe/Paris" in exported
    assert "export DO_NOT_TRACK=true" in exported


@pytest.mark.parametrize("value", ["4", "none"])
def test_an_invalid_setting_ends_every_command(project: Project, value: str) -> None:
    name = "LENET5_GPU" if value == "4" else "LENET5_GPUS"
    done = project.command("lenet5", "status", environment={name: value})
    assert done.returncode == 2
    assert "LENET5_GPUS" in done.stderr
    assert "Traceback" not in done.stderr
