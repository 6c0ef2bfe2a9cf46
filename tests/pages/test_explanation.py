"""``lenet5 explain`` shows what the registered model makes of a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet5.core.text import printable
from tests.conftest import Arrays, Project
from tests.stages.evaluate.test_report import Page

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("models")]


@pytest.fixture(scope="module")
def pictures(digits: Arrays, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures; the name of one is HTML and holds a control character."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "first.png", folder / "<b>two\x1b[1m.png"]
    for path, image in zip(paths, digits["test_images"], strict=False):
        Image.fromarray(image).save(path, format="PNG")
    return paths


def test_page_has_the_answers_and_the_layers(finished: Project, tmp_path: Path, pictures: list[Path]) -> None:
    output = tmp_path / "new" / "page.html"
    names = [str(path) for path in pictures]
    answers = json.loads(finished.run("lenet5", "explain", *names, "--output", str(output), "--json"))
    assert answers == json.loads(finished.run("lenet5", "predict", *names, "--json"))
    text = output.read_text(encoding="utf-8")
    page = Page(text)
    assert "<b>" not in text
    for answer, path in zip(answers, pictures, strict=True):
        assert f"{printable(path.name)}: {answer['class']}" in page.text
        assert f"Probability {answer['probability']:.3f}" in page.text
    alternatives = [str(image["alt"]) for image in page.all("img")]
    for name in ("C1", "S2", "C3", "S4", "C5", "F6"):
        assert len([text for text in alternatives if text.startswith(f"Output of {name} ")]) == 2
    assert len([text for text in alternatives if text.startswith("Occlusion map")]) == 2
    assert all(str(image["src"]).startswith("data:image/png") for image in page.all("img"))


def test_page_is_written_to_the_working_folder_and_named(finished: Project, pictures: list[Path]) -> None:
    said = finished.run("lenet5", "explain", str(pictures[0]), "--version", "1")
    page = finished.root / "explain.html"
    try:
        assert "page: explain.html" in said
        assert page.stat().st_size < 1_000_000
    finally:
        page.unlink()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nowhere.png",), 4, "no file of this name"),
        (("blank.png",), 4, "This picture shows only background"),
        (("first.png", "--version", "99"), 2, "has no version '99'"),
    ],
)
def test_it_fails_as_predict_does_and_writes_nothing(
    finished: Project, tmp_path: Path, pictures: list[Path], words: tuple[str, ...], code: int, message: str
) -> None:
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(pictures[0].parent / "blank.png")
    image, *options = words
    output = tmp_path / "page.html"
    for command in (("explain", "--output", str(output)), ("predict",)):
        done = finished.command("lenet5", *command, str(pictures[0].parent / image), *options)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert not output.exists()
