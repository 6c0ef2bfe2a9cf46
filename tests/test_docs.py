"""What the documents tell a reader to type exists."""

import doctest
import re
from pathlib import Path

import pytest
from typer import Typer

from lenet5.cli import app
from lenet5.stages.params import load
from tests.conftest import REPOSITORY, Project
from tools import screenshots

DOCUMENTS = [
    REPOSITORY / "README.md",
    REPOSITORY / "ARCHITECTURE.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "CHANGELOG.md",
    REPOSITORY / "SECURITY.md",
    REPOSITORY / "data/mnist/README.md",
    *(REPOSITORY / "docs").glob("*.md"),
]
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def code(document: Path) -> str:
    return "\n".join(CODE.findall(without_diffs(document)))


def without_diffs(document: Path) -> str:
    """The text without its example diffs, which name what is not there yet."""
    return re.sub(r"```diff.*?```", "", document.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document: Path) -> None:
    commands = _names(app)
    groups = {str(group.name): group.typer_instance for group in app.registered_groups}
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    typed = re.findall(r"(?:^|[`$(] ?)(lenet5|make) ([a-z]+)", code(document), re.MULTILINE)
    for program, word in typed:
        assert word in (commands | groups.keys() if program == "lenet5" else targets), f"{program} {word}"
    for group, word in re.findall(rf"lenet5 ({'|'.join(groups)}) ([a-z]+)", code(document)):
        assert word in _names(groups[group]), f"lenet5 {group} {word}"


def _names(commands: Typer | None) -> set[str]:
    assert commands is not None
    return {each.name or str(getattr(each.callback, "__name__", "")) for each in commands.registered_commands}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_picture_is_shown_and_every_page_that_is_photographed_too() -> None:
    shown = {
        name for document in DOCUMENTS for name in re.findall(r"images/([\w-]+\.png)", document.read_text())
    }
    assert {path.name for path in (REPOSITORY / "docs/images").glob("*.png")} == shown
    assert {f"{name}.png" for name in screenshots.PICTURES} <= shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_parameters_exist(document: Path) -> None:
    known = load(REPOSITORY / "params.yaml").flat()
    sections = {name.split(".")[0] for name in known}
    for name in re.findall(r"`([a-z]+\.[a-z_.0-9]+)`", document.read_text()):
        if name.split(".")[0] in sections and not name.endswith((".val_loss", ".accuracy")):
            assert any(key == name or key.startswith(f"{name}.") for key in known), name


def test_every_command_is_told_of() -> None:
    told = "\n".join(document.read_text() for document in DOCUMENTS)
    for name in _names(app):
        assert re.search(rf"(lenet5|make) {name}\b", told) or f"`{name}`" in told, name
    for group in app.registered_groups:
        for name in _names(group.typer_instance):
            assert f"lenet5 {group.name} {name}" in told, name


def test_every_exit_code_is_told_of() -> None:
    from lenet5.core.errors import Lenet5Error

    told = (REPOSITORY / "docs/operations.md").read_text()
    for kind in Lenet5Error.__subclasses__():
        assert f"| {kind.exit_code} |" in told


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = without_diffs(document)
    for name in re.findall(r"`((?:src|pipelines|tests|docs|benchmarks|docker)/[\w./-]*)`", text):
        assert (REPOSITORY / name).exists(), name


def test_example_diffs_of_the_contributing_guide_apply_to_the_files_as_they_are() -> None:
    """The context and the removed lines of each example are in the file that it names."""
    diffs = re.findall(r"```diff\n(.*?)```", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert len(diffs) >= 4
    for diff in diffs:
        content: list[str] = []
        for line in diff.splitlines():
            if line.startswith("--- a/"):
                content = (REPOSITORY / line.removeprefix("--- a/")).read_text().splitlines()
            elif line.startswith((" ", "-")):
                assert line[1:] in content, line


def test_the_walk_through_lenet5_prints_what_the_page_shows(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks run in order in one namespace, as a reader types them, on the model of a real pipeline."""
    page = (REPOSITORY / "docs/lenet5.md").read_text()
    typed = "\n".join(re.findall(r"```pycon\n(.*?)```", page, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(typed, {}, "docs/lenet5.md", None, None)
    monkeypatch.chdir(finished.root)
    differences: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=differences.append)
    assert not result.failed, "".join(differences)
    assert result.attempted == typed.count(">>> ") > 50


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def test_no_document_shows_a_placeholder() -> None:
    for document in DOCUMENTS:
        assert "@@" not in document.read_text(), document.name
