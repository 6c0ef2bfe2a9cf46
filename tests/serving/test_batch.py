"""``lenet5 batch`` answers as the version does, reports what it cannot use, and writes no half of a file."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lenet5.serving import batch, inference_log, predictor
from lenet5.serving.predictor import Model
from lenet5.system.state import LocalState
from tests.conftest import BIN, Arrays, Project, until


@pytest.fixture
def own(finished: Project, tmp_path: Path) -> Project:
    """A checkout with its own state, whose registry has a champion."""
    project = Project(tmp_path / "project", tmp_path / "home")
    project.home.mkdir()

    def large(folder: str, _: list[str]) -> set[str]:
        return {"data", ".git"} if Path(folder) == finished.root else set()

    shutil.copytree(finished.root, project.root, symlinks=True, ignore=large)
    return project


@pytest.fixture
def model(own: Project) -> Model:
    return predictor.of_onnx(1, own.paths.onnx.read_bytes())


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def answers(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def check(rows: list[dict[str, Any]], images: np.ndarray, model: Model) -> None:
    """Compare rows with the scores of the images, in their order."""
    scores = model.probabilities(images)
    assert len(rows) == len(images)
    for row, image, scored in zip(rows, images, scores, strict=True):
        assert row["class"] == model.description.classes[scored.argmax()]
        assert np.allclose(row["probabilities"], scored, atol=1e-5)
        assert row["confidence"] == pytest.approx(scored.max(), abs=1e-5)
        assert row["input_sha256"] == hashlib.sha256(image.tobytes()).digest()
        assert (row["version"], row["route"], row["pixels"]) == (1, "batch", None)


def test_every_kind_of_file_gets_the_answers_of_the_version(
    own: Project, model: Model, digits: Arrays, tmp_path: Path
) -> None:
    images = digits["test_images"]
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "no.png").write_bytes(b"never read")
    (folder / "notes.txt").write_text("no image")
    np.save(folder / "a.npy", images[:700].astype(np.int64))  # whole numbers of any type
    np.save(folder / "b.npy", images[0])
    pd.DataFrame({"image": [{"bytes": png(each), "path": None} for each in images[:3]]}).to_parquet(
        folder / "c.parquet"
    )
    pd.DataFrame({"pixels": [each.tobytes() for each in images[:600]]}).to_parquet(folder / "d.parquet")
    pd.DataFrame({"pixels": [each.ravel().tolist() for each in images[:5]]}).to_parquet(folder / "e.parquet")
    pd.DataFrame({"drawn": [each.tolist() for each in images[:5]], "label": 0}).to_parquet(
        folder / "below" / "f.parquet"
    )
    (folder / "below" / "g.png").write_bytes(png(images[7]))
    done = own.command("lenet5", "batch", str(folder), "--output", str(tmp_path / "out.parquet"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["version"], told["files"], told["images"], told["unusable"]) == (1, 7, 1315, [])
    rows = answers(tmp_path / "out.parquet")
    by_file: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_file.setdefault(Path(row["source"]).name, []).append(row)
    assert all([row["row"] for row in some] == list(range(len(some))) for some in by_file.values())
    assert all(len({row["request_id"] for row in some}) == 1 for some in by_file.values())
    converted = np.stack([predictor.read(folder / "below" / "g.png", model.description, model.shape)])
    check(by_file["a.npy"], images[:700], model)
    check(by_file["b.npy"], images[:1], model)
    check(by_file["d.parquet"], images[:600], model)
    check(by_file["e.parquet"], images[:5], model)
    check(by_file["f.parquet"], images[:5], model)
    check(by_file["g.png"], converted, model)
    assert len(by_file["c.parquet"]) == 3
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups <= 2
    logged = inference_log.read_all(LocalState(own.root).serving / "log").to_pylist()
    assert logged == [{name: value for name, value in row.items() if name != "source"} for row in rows]


def test_log_with_pixels_is_scored_again(own: Project, digits: Arrays, tmp_path: Path) -> None:
    images = digits["test_images"][:20]
    np.save(tmp_path / "a.npy", images)
    own.run("lenet5", "batch", str(tmp_path / "a.npy"), "--output", str(tmp_path / "first.parquet"))
    first = pd.read_parquet(tmp_path / "first.parquet")
    first["pixels"] = [image.tobytes() for image in images]
    first.to_parquet(tmp_path / "logged.parquet")
    again = tmp_path / "again.parquet"
    own.run("lenet5", "batch", str(tmp_path / "logged.parquet"), "--output", str(again), "--no-log")
    assert [row["class"] for row in answers(again)] == first["class"].tolist()
    assert inference_log.read_all(LocalState(own.root).serving / "log").num_rows == 20


def test_what_cannot_be_used_is_reported_and_the_others_have_answers(
    own: Project, digits: Arrays, tmp_path: Path
) -> None:
    images = digits["test_images"]
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "good.npy", images[:4])
    np.save(folder / "fractions.npy", images[:4] / 255)
    np.save(folder / "wide.npy", np.zeros((2, 28, 29), np.uint8))
    np.save(folder / "empty.npy", np.zeros((0, 28, 28), np.uint8))
    np.save(folder / "scalar.npy", np.uint8(3))
    np.save(folder / "text.npy", np.array(["a"]))
    np.save(folder / "pickle.npy", np.array([{}]), allow_pickle=True)
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-5])
    pixels = [images[0].tobytes(), b"short", None, png(images[1]), png(images[1])[:60], images[2].tobytes()]
    pd.DataFrame({"pixels": pixels}).to_parquet(folder / "rows.parquet")
    pd.DataFrame({"text": ["a"]}).to_parquet(folder / "none.parquet")
    (folder / "bad.parquet").write_bytes(b"PAR1")
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "\x1b[31mred.png").write_bytes(b"no picture")
    (folder / os.fsdecode(b"z\xff.png")).write_bytes(png(images[3]))  # the name is no UTF-8
    missing = tmp_path / "missing.png"
    output = tmp_path / "out.parquet"
    done = own.command("lenet5", "batch", str(folder), str(missing), "--output", str(output))
    assert done.returncode == 4
    assert "\x1b" not in done.stdout + done.stderr
    rows = answers(output)
    assert [(Path(row["source"]).name, row["row"]) for row in rows] == [
        *(("good.npy", row) for row in range(4)),
        *(("rows.parquet", row) for row in (0, 3, 5)),
        (r"z\xff.png", 0),
    ]
    for name in (
        *("fractions.npy", "wide.npy", "empty.npy", "scalar.npy", "text.npy", "pickle.npy", "cut.npy"),
        *("rows.parquet, row 1", "rows.parquet, row 2", "rows.parquet, row 4"),
        *("none.parquet", "bad.parquet", "bad.png", "red.png", "missing.png"),
    ):
        assert name in done.stderr
    assert "from 0 to 1" in done.stderr
    as_json = own.command("lenet5", "batch", str(folder), "--output", str(output), "--json", "--no-log")
    assert as_json.returncode == 4
    assert len(json.loads(as_json.stdout)["unusable"]) == 14
    output.write_text("earlier")
    done = own.command("lenet5", "batch", str(folder / "bad.png"), "--output", str(output))
    assert done.returncode == 4
    assert output.read_text() == "earlier"
    assert own.command("lenet5", "batch", str(tmp_path / "home"), "--output", str(output)).returncode == 4


def test_version_that_does_not_exist_is_a_wrong_usage(own: Project, digits: Arrays, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", digits["test_images"][:4])
    output = tmp_path / "out.parquet"
    done = own.command("lenet5", "batch", str(tmp_path / "a.npy"), "-o", str(output), "--version", "77")
    assert done.returncode == 2
    assert not output.exists()


def test_kill_leaves_an_earlier_output_as_it_was(own: Project, digits: Arrays, tmp_path: Path) -> None:
    images = np.tile(digits["test_images"], (100, 1, 1))
    np.save(tmp_path / "many.npy", images)
    folder = tmp_path / "out"
    folder.mkdir()
    output = folder / "out.parquet"
    output.write_text("earlier")
    command = [str(BIN / "lenet5"), "batch", str(tmp_path / "many.npy"), "--output", str(output)]
    with subprocess.Popen(command, cwd=own.root, env=own.environment()) as process:
        log = LocalState(own.root).serving / "log"
        until(lambda: inference_log.read_all(log).num_rows > 10, 60, "the first answers are logged")
        assert process.poll() is None
        process.kill()
    assert output.read_text() == "earlier"
    np.save(tmp_path / "few.npy", images[:10])
    own.run("lenet5", "batch", str(tmp_path / "few.npy"), "--output", str(output))
    assert len(answers(output)) == 10
    assert [path.name for path in folder.iterdir()] == ["out.parquet"]
    table = inference_log.read_all(log)
    keys = list(zip(table["request_id"].to_pylist(), table["row"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys)) > 10


def test_memory_does_not_grow_with_the_input(model: Model, tmp_path: Path, digits: Arrays) -> None:
    np.save(tmp_path / "many.npy", np.tile(digits["test_images"], (5, 1, 1)))
    chunks = list(batch._read(tmp_path / "many.npy", "id", model, lambda _, error: pytest.fail(str(error))))
    assert {len(chunk.images) for chunk in chunks} == {1000}
    assert np.concatenate([chunk.rows for chunk in chunks]).tolist() == list(range(5000))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kilobytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_keeps_an_earlier_output(
    own: Project, small_disk: Path, digits: Arrays, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5000, 28, 28), np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    output = small_disk / "out.parquet"
    output.write_text("earlier")
    done = own.command("lenet5", "batch", str(tmp_path / "noise.npy"), "-o", str(output), "--no-log")
    assert done.returncode == 7, done.stderr
    assert output.read_text() == "earlier"
    assert [path.name for path in small_disk.iterdir()] == ["out.parquet"]


def test_traffic_counts_batches_and_prints_no_terminal_sequences(
    own: Project, digits: Arrays, tmp_path: Path
) -> None:
    folder = LocalState(own.root).serving
    empty = own.command("lenet5", "traffic")
    assert empty.returncode == 4
    assert "lenet5 serve" in empty.stderr
    np.save(tmp_path / "a.npy", digits["test_images"][:30])
    own.run("lenet5", "batch", str(tmp_path / "a.npy"), "--output", str(tmp_path / "out.parquet"))
    rows = answers(tmp_path / "out.parquet")
    (folder / "feedback").mkdir()
    labels = ["\x1b[31m<b>[red]7[/]\x1b]0;owned\x07", rows[1]["class"]]
    entries = [
        {"request_id": row["request_id"], "row": row["row"], "label": label, "time": "2026-01-01"}
        for row, label in zip(rows, labels, strict=False)
    ]
    lines = "".join(f"{json.dumps(entry)}\n" for entry in entries)
    (folder / "feedback" / "2026-01-01.jsonl").write_text(lines)
    told = json.loads(own.run("lenet5", "traffic", "--json"))
    [version] = told["versions"]
    assert (told["requests"], told["images"], version["routes"]) == (1, 30, {"batch": 30})
    assert sum(each["reference_share"] for each in version["classes"]) == pytest.approx(1)
    assert (told["feedback"]["joined"], told["feedback"]["correct"]) == (2, 1)
    text = own.run("lenet5", "traffic")
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "<b>[red]7[/]" in text
    assert "accuracy on the labelled images: 0.5000" in text
    damaged = next(inference_log.parts(folder / "log"))
    other = damaged.with_name(f"0{damaged.name}")
    other.write_bytes(damaged.read_bytes()[:-9])
    done = own.command("lenet5", "traffic", "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["images"] == 30
    assert other.name in done.stderr
    assert own.command("lenet5", "traffic", "--since", "yesterday").returncode == 2
    assert own.command("lenet5", "traffic", "--until", "1d").returncode == 4


def test_interrupt_ends_with_the_usual_exit_code(own: Project, digits: Arrays, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.tile(digits["test_images"], (100, 1, 1)))
    output = tmp_path / "out.parquet"
    command = [str(BIN / "lenet5"), "batch", str(tmp_path / "many.npy"), "--output", str(output)]
    with subprocess.Popen(command, cwd=own.root, env=own.environment(), stderr=subprocess.PIPE) as process:
        until(lambda: list((LocalState(own.root).serving / "log").glob("*/*")), 60, "answers are logged")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert not output.exists()
    parts = list(inference_log.parts(LocalState(own.root).serving / "log"))
    assert [path.suffix for path in parts] == [".parquet"]
