"""``params.yaml`` accepts valid values only, and the error lists every other one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lenet5.core.errors import UsageError
from lenet5.stages.params import Params, load, pin_checksums, write
from tests.conftest import REPOSITORY

REAL = REPOSITORY / "params.yaml"

Edited = Callable[..., Path]

UNUSABLE: dict[str, list[Any]] = {
    "ingest.source": ["", 3, None],
    "ingest.sha256.train_images": ["", "abc", "G" * 64],
    "ingest.sha256.train_labels": ["a" * 63],
    "ingest.sha256.test_images": ["a" * 65],
    "ingest.sha256.test_labels": [0],
    "ingest.format": ["zip", "", None],
    "ingest.classes": [[], ["0"], ["0", "0"], "01"],
    "ingest.image.size": [7, 65, 28.0],
    "ingest.image.channels": [0, 2, 4],
    "ingest.image.fit": ["crop", ""],
    "ingest.image.transpose": [0, "no"],
    "ingest.pictures": ["digits", ""],
    "ingest.test_share": [0, 1],
    "ingest.split_seed": [-1, 2**32],
    "ingest.additions": ["data/more", None],
    "ingest.max_megabytes": [0, -1, 1.5],
    "ingest.attempts": [0, True],
    "validate.height": [0],
    "validate.width": [-28],
    "validate.pixel_min": [-1],
    "validate.pixel_max": [0],
    "validate.ink_threshold": [-1],
    "validate.channels": [0, 2, 4],
    "validate.max_ink_change": [-0.1, 1.1],
    "validate.max_class_share_change": [-0.1, 1.1],
    "validate.max_train_duplicates": [-1],
    "validate.max_test_in_train": [-1],
    "validate.max_ink_drift": [0, float("inf"), float("nan")],
    "validate.max_class_drift": [0, -1],
    "validate.max_test_share": [-0.1, 1.1],
    "validate.near_duplicate_share": [-0.1, 1.1],
    "validate.max_train_near_duplicates": [-1, 1.5],
    "validate.max_test_near_train": [-1, 1.5],
    "validate.max_agreement_loss": [-0.1, 1.1],
    "validate.max_mean_distance": [0, -1],
    "validate.max_suspect_labels": [-0.1, 1.1],
    "validate.max_unlike_images": [-0.1, 1.1],
    "validate.false_alarm_rate": [0, 0.5],
    "preprocess.seed": [-1, 2**32],
    "preprocess.validation_images": [0, "5000"],
    "preprocess.padding": [-1, 15, 2.0],
    "train.seed": [-1, 2**32],
    "train.architecture": ["cnn", ""],
    "train.kernel_size": [2, 4, 7],
    "train.padding": ["full", 1],
    "train.pooling": ["min", 2],
    "train.l2": [-0.1, float("nan"), float("inf")],
    "train.optimizer": ["sgd", ""],
    "train.learning_rate": [0, -0.1, float("nan"), float("inf"), "0.1"],
    "train.weight_decay": [-0.1],
    "train.beta_2": [0, 1],
    "train.schedule": ["linear"],
    "train.warmup": [-0.1, 1],
    "train.label_smoothing": [-0.1, 1],
    "train.calibration": ["platt", "", None],
    "train.distortion.shift": [-1, 15],
    "train.distortion.rotation": [-1, 181, float("nan")],
    "train.distortion.scale": [-0.1, 1],
    "train.distortion.elastic": [-0.1, 15, float("nan")],
    "train.distortion.blur": [-0.1, 1.1],
    "train.distortion.background": [-0.1, float("inf")],
    "train.distortion.noise": [-0.1, 1.1],
    "train.distortion.outline": [-0.1, 1.1],
    "train.distortion.lines": [-1, 101, 2.5],
    "train.distortion.invert": [-0.1, 1.1],
    "train.distortion.combined": [-1, 1.5],
    "train.distortion.undistorted": [-0.1, 1.1],
    "train.batch_size": [0],
    "train.epochs": [0, 4.0, "4", True],
    "train.patience": [-1],
    "train.steps_per_execution": [0],
    "train.threads": [0],
    "train.precision": ["float16", ""],
    "train.workers": [0, 1.5, "2"],
    "evaluate.calibration_bins": [0],
    "evaluate.mistakes": [0, 101],
    "evaluate.robustness.corruptions": [[], ["fog", "fog"], "fog"],
    "evaluate.robustness.severities": [[], [1, 1], 3],
    "evaluate.robustness.images": [0, -1, 2.5],
    "evaluate.robustness.seed": [-1, 2**32],
    "register.model_name": ["", "a/b", "a:b"],
    "register.floors.accuracy": [-0.1, 1.1],
    "register.floors.worst_class_recall": [1.1, float("nan")],
    "register.floors.mean_corruption_accuracy": [-0.1, 1.1],
    "register.ceilings.calibration_error": [-0.1, 1.1],
    "register.gate.margin": [0, -0.1, 1],
    "register.gate.corruption_margin": [0, -0.1, 1],
    "register.gate.slice_margin": [0, -0.1, 1],
    "register.gate.confidence": [0.5, 1],
    "register.gate.tie": ["reject", ""],
    "register.gate.max_drop": [0, -0.1, 1],
    "register.gate.resamples": [0],
    "register.gate.seed": [-1, 2**32],
}


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    """Copy the real file and set values by dotted name; the value ``...`` removes the key."""

    def edit(**changed: Any) -> Path:
        content = YAML(typ="safe").load(REAL.read_text())
        for name, value in changed.items():
            *sections, key = name.split(".")
            section = content
            for part in sections:
                section = section[part]
            if value is ...:
                del section[key]
            else:
                section[key] = value
        path = tmp_path / "params.yaml"
        with path.open("w") as file:
            YAML(typ="safe").dump(content, file)
        return path

    return edit


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        load(path)
    return str(refused.value)


def test_the_file_in_the_repository_loads() -> None:
    params = load(REAL)
    assert params.train.learning_rate == 0.008
    assert params.register_.floors.accuracy == 0.9872


@pytest.mark.parametrize("stage", ["ingest", "validate", "preprocess", "train", "evaluate", "register"])
def test_every_stage_has_its_section(stage: str) -> None:
    content = YAML(typ="safe").load(REAL.read_text())
    assert load(REAL).model_dump(by_alias=True)[stage] == content[stage]


def test_flat_names_are_dotted_paths_into_the_file() -> None:
    flat = load(REAL).flat()
    content = YAML(typ="safe").load(REAL.read_text())
    for name, value in flat.items():
        expected = content
        for part in name.split("."):
            expected = expected[part]
        assert value == expected
    assert flat["register.floors.accuracy"] == 0.9872
    assert flat["validate.pixel_max"] == 255


def test_checked_params_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(REAL).train.epochs = 0


def test_every_parameter_has_a_limit_and_every_limit_a_test() -> None:
    assert UNUSABLE.keys() == load(REAL).flat().keys()


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, vs in UNUSABLE.items() for v in vs])
def test_value_out_of_range_is_an_error_that_names_the_key(edited: Edited, name: str, value: object) -> None:
    text = refusal(edited(**{name: value}))
    assert f"    {name}: " in text
    assert f"found {value!r}" in text
    assert text.count("\n") == 2  # the lines are the file, the problem and the fix


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evaluate.robustness.corruptions", "'shot_noise'"),
        ("evaluate.robustness.severities", "less than or equal to 5"),
    ],
)
def test_unknown_corruption_or_severity_is_an_error_that_lists_the_values(
    edited: Edited, name: str, expected: str
) -> None:
    value = "fogg" if name.endswith("corruptions") else 6
    text = refusal(edited(**{name: [value]}))
    assert f"    {name}.0: " in text
    assert expected in text
    assert f"found {value!r}" in text


@pytest.mark.parametrize("name", ["pixel"])
def test_limits_in_the_wrong_order_are_an_error(edited: Edited, name: str) -> None:
    text = refusal(edited(**{f"validate.{name}_min": 1, f"validate.{name}_max": 1}))
    assert f"    validate: {name}_min must be below {name}_max, found 1" in text
    assert "height" not in text  # the message does not list the other values of the section


def test_batch_size_that_workers_cannot_divide_is_an_error(edited: Edited) -> None:
    text = refusal(edited(**{"train.batch_size": 128, "train.workers": 3}))
    assert "    train: batch_size must be divisible by workers, found 128 and 3" in text


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [("kernel_size", 5, "3"), ("padding", "same", "'valid'"), ("pooling", "average", "'max'")],
)
def test_parameter_that_an_mlp_lacks_must_stay_as_it_is(
    edited: Edited, name: str, value: Any, kept: str
) -> None:
    changed = {f"train.{name}": value}
    assert load(edited(**{"train.architecture": "lenet5"}, **changed)).flat()[f"train.{name}"] == value
    text = refusal(edited(**{"train.architecture": "mlp"}, **changed))
    assert f"    train: {name} must be {kept} with the architecture mlp" in text
    assert f"found {value!r}" in text


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("trian", "ingest, validate, preprocess, train, evaluate, register"),
        ("validate_", "ingest, validate, preprocess, train, evaluate, register"),
        (
            "train.learing_rate",
            "seed, architecture, kernel_size, padding, pooling, l2, optimizer, learning_rate",
        ),
        ("validate.hight", "height, width"),
        ("ingest.sha256.train", "train_images, train_labels"),
        ("register.floors.loss", "accuracy, worst_class_recall"),
    ],
)
def test_unknown_key_is_an_error_that_lists_the_existing_keys(edited: Edited, name: str, keys: str) -> None:
    text = refusal(edited(**{name: 1}))
    assert f"    {name}: there is no '{name.rsplit('.', maxsplit=1)[-1]}' here, but {keys}" in text


@pytest.mark.parametrize("name", [*Params.model_json_schema()["required"], "train.seed", "ingest.sha256"])
def test_missing_key_is_an_error_that_names_only_this_key(edited: Edited, name: str) -> None:
    assert refusal(edited(**{name: ...})).splitlines()[1:-1] == [f"    {name}: is missing"]


def test_error_lists_all_problems(edited: Edited) -> None:
    text = refusal(
        edited(**{"train.epochs": 0, "train.epoch": 3, "preprocess.seed": ..., "evaluate.mistakes": "five"})
    )
    for line in (
        "train.epochs: Input should be greater than 0, found 0",
        "train.epoch: there is no 'epoch' here",
        "preprocess.seed: is missing",
        "evaluate.mistakes: Input should be a valid integer, found 'five'",
    ):
        assert line in text


def test_number_in_place_of_a_section_is_an_error(edited: Edited) -> None:
    assert "    train: should be a section with keys, found 3" in refusal(edited(train=3))


def test_missing_file_is_an_error_that_names_its_path(tmp_path: Path) -> None:
    text = refusal(tmp_path / "params.yaml")
    assert "There is no params.yaml" in text
    assert str(tmp_path / "params.yaml") in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found:    nothing"),
        (b"# only a comment\n", "found:    nothing"),
        (b"- a list\n", "found:    ['a list']"),
        (b"train: {seed: 1\n", "is not YAML"),
        (b"train: {seed: 1, seed: 2}\n", "duplicate key"),
        (b"\xff\xfe\x00", "is not YAML"),
    ],
)
def test_file_without_parameters_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert message in refusal(path)


def test_pin_checksums_changes_only_the_checksums(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(REAL.read_bytes())
    before = path.read_text()
    checksums = load(path).ingest.sha256.model_copy(update={"test_labels": "a" * 64})
    pin_checksums(path, checksums)
    changed = [
        (old, new)
        for old, new in zip(before.splitlines(), path.read_text().splitlines(), strict=True)
        if old != new
    ]
    [(old, new)] = changed
    assert old.startswith("    test_labels: ff7b")
    assert new == f"    test_labels: {'a' * 64}"
    assert load(path).ingest.sha256 == checksums


def test_write_keeps_the_distance_of_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(REAL.read_bytes())
    write(path, {"train.learning_rate": 0.01803, "train.batch_size": 64})
    before = REAL.read_text()
    assert "learning_rate: 0.008  #" in before
    longer = before.replace("learning_rate: 0.008  #", "learning_rate: 0.01803  #")
    assert path.read_text() == longer.replace("batch_size: 96  #", "batch_size: 64  #")


def test_changed_values_are_checked_like_values_of_the_file() -> None:
    params = load(REAL)
    assert params.changed({"train.learning_rate": 0.5}).train.learning_rate == 0.5
    assert params.train.learning_rate == 0.008
    with pytest.raises(UsageError) as refused:
        params.changed({"train.learning_rate": -1.0, "train.epoch": 3, "trian.epochs": 3})
    for name in (
        "train.learning_rate: Input should be greater",
        "train.epoch: there is no",
        "trian: there is",
    ):
        assert name in str(refused.value)
