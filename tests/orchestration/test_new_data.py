"""``lenet5 data init`` sets a checkout up for other data, and the examples of docs/your-data.md work."""

import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import data_sets
from lenet5.core import dataset
from lenet5.orchestration import new_data
from lenet5.stages.params import load
from tests.conftest import REPOSITORY, Arrays, Project

PAGE = REPOSITORY / "docs/your-data.md"
EXAMPLES = re.findall(
    r"^(lenet5 data init .+)\n(lenet5 run)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
)
FILES = ("params.yaml", "data/card.yaml", "data/reference.json", "data/reference.npz")


def letters() -> data_sets.Pictures:
    return data_sets.printed("ABC", 100)


def write_idx(project: Project, folder: Path) -> None:
    """Other data with the names of Fashion-MNIST's files: the project's own."""
    shutil.copytree(project.root / "data/mnist", folder)


SOURCES: Mapping[str, Callable[[Project], object]] = {
    "fashion-mnist": lambda project: write_idx(project, project.root / "fashion-mnist"),
    "letters": lambda project: data_sets.write_folders(letters(), project.root / "letters"),
    "letters-csv": lambda project: data_sets.write_csv(letters(), project.root / "letters-csv"),
    "letters-parquet": lambda project: data_sets.write_parquet(letters(), project.root / "letters-parquet"),
    "shapes.npz": lambda project: data_sets.write_npz(data_sets.shapes(75), project.root / "shapes.npz"),
    "sklearn:digits": lambda project: None,
}
"""Makes the source of each example, by the name that the page gives it."""


def contents(project: Project) -> dict[str, bytes]:
    return {name: (project.root / name).read_bytes() for name in FILES if (project.root / name).exists()}


def test_every_example_has_a_source() -> None:
    assert [shlex.split(init)[3] for init, _ in EXAMPLES if init.split()[3] in SOURCES] == list(SOURCES)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("init", "run"),
    [
        pytest.param(*example, marks=() if "sklearn" in example[0] else pytest.mark.long)
        for example in EXAMPLES
        if "SOURCE" not in example[0]
    ],
)
def test_example_ends_with_a_champion(project: Project, init: str, run: str) -> None:
    words = shlex.split(init)
    SOURCES[words[3]](project)
    done = project.run(*words, "--yes")
    assert "Next: `lenet5 run`" in done
    output = project.run(*shlex.split(run))
    name = load(project.paths.params).register_.model_name
    assert name != "lenet5-mnist"
    assert "champion" in output
    text = project.paths.model_card.read_text(encoding="utf-8")
    assert name in text
    for of_mnist in ("MNIST (", "handwritten digits", "LeCun"):
        assert of_mnist not in text.replace("Fashion-MNIST", "")
    if "--licence" not in words:
        assert "not stated" in text


@pytest.mark.integration
def test_a_dry_run_shows_the_change_and_writes_nothing(project: Project) -> None:
    SOURCES["letters"](project)
    before = contents(project)
    shown = project.run("lenet5", "data", "init", "letters", "--dry-run")
    for text in (
        "letters: 300 images, read as folder",
        "28x28, grey, uint8",
        "+  classes: [A, B, C]",
        "+  model_name: lenet5-letters",
        "+name: letters",
        "Nothing was written.",
    ):
        assert text in shown, text
    assert contents(project) == before


@pytest.mark.integration
def test_without_a_terminal_an_option_must_answer(project: Project) -> None:
    before = contents(project)
    done = project.call("lenet5", "data", "init", "sklearn:digits")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert contents(project) == before


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("sklearn:digits", "--classes", "cat,dog"), 2, "These names cannot be given to the classes."),
        (("letters", "--classes", "a,b,c"), 2, "These names cannot be given to the classes."),
        (("letters", "--format", "zip"), 2, "There is no such format."),
        (("one-class",), 4, "one-class has only one class."),
        (("nowhere",), 4, "nowhere"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(
    project: Project, words: tuple[str, ...], code: int, message: str
) -> None:
    SOURCES["letters"](project)
    shutil.copytree(project.root / "letters/train/A", project.root / "one-class/A")
    before = contents(project)
    done = project.call("lenet5", "data", "init", *words, "--yes")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(project) == before


@pytest.mark.integration
def test_checks_that_the_data_fails_are_shown(project: Project) -> None:
    SOURCES["letters"](project)
    for picture in (project.root / "letters/test").rglob("*.png"):  # another alphabet, so to speak
        pixels = np.asarray(Image.open(picture)).T
        Image.fromarray(np.ascontiguousarray(pixels[::-1])).save(picture)
    shown = project.run("lenet5", "data", "init", "letters", "--yes")
    assert "label_agreement" in shown
    assert "look at the failed checks above" in shown
    assert project.command("lenet5", "ingest").returncode == 0
    assert project.command("lenet5", "validate").returncode == 4


@pytest.mark.integration
def test_images_are_added_to_train_and_test_stays(project: Project, digits: Arrays) -> None:
    some = data_sets.Pictures(
        digits["test_images"][:40], [str(label) for label in digits["test_labels"][:40]]
    )
    data_sets.write_folders(some, project.root / "corrected", splits=False)
    added = project.call("lenet5", "data", "add", "corrected")
    assert "as ingest.additions.0" in added.stdout, added.stderr
    [addition] = load(project.paths.params).ingest.additions
    assert addition.source == "corrected"
    project.run("lenet5", "ingest")
    raw = dataset.load(project.paths.raw)
    np.testing.assert_array_equal(raw.splits["test"].images, digits["test_images"])
    np.testing.assert_array_equal(raw.splits["train"].images[:-40], digits["train_images"])
    assert sorted(raw.splits["train"].labels[-40:]) == sorted(digits["test_labels"][:40])
    rows = dataset.Rows(source="corrected", split="train", start=len(digits["train_images"]), count=40)
    assert rows in raw.manifest.origins


@pytest.mark.integration
def test_an_addition_of_other_classes_is_refused(project: Project) -> None:
    SOURCES["letters"](project)
    before = contents(project)
    done = project.call("lenet5", "data", "add", "letters")
    assert done.returncode == 4
    assert "A (" in done.stderr
    assert contents(project) == before


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/mnist", "mnist"),
        ("/mnt/letters/", "letters"),
        ("https://me:secret@example.org/shapes.npz?token=1", "shapes"),
        ("letters.csv.gz", "letters"),
        ("sklearn:digits", "digits"),
        ("boots/data", "boots"),
    ],
)
def test_a_data_set_is_named_after_its_source(source: str, name: str) -> None:
    assert new_data.default_name(source) == name
