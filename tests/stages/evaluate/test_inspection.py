"""What is read from the inside of a model is what the model computes."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate

from lenet5.core.results import Training
from lenet5.stages.evaluate import inspection
from lenet5.stages.evaluate.inspection import Inspector
from tests.conftest import Arrays, Project

SHAPES: dict[str, tuple[int, ...]] = {
    **{"C1": (26, 26, 6), "S2": (13, 13, 6), "C3": (11, 11, 16), "S4": (5, 5, 16)},
    **{"C5": (120,), "F6": (84,), "output": (10,)},
}


@pytest.fixture(scope="module")
def inspector(finished: Project) -> Inspector:
    return Inspector(finished.paths.onnx.read_bytes())


@pytest.fixture(scope="module")
def images(digits: Arrays) -> NDArray[np.uint8]:
    """More than one batch."""
    return digits["test_images"][:70]


def test_layers_have_the_names_and_shapes_of_the_papers_figure(
    inspector: Inspector, images: NDArray[np.uint8]
) -> None:
    outputs = inspector.activations(images)
    assert {name: output.shape for name, output in outputs.items()} == {
        name: (70, *shape) for name, shape in SHAPES.items()
    }


def test_parameters_of_the_layers_add_up(finished: Project, inspector: Inspector) -> None:
    assert [layer.parameters for layer in inspector.layers] == [60, 0, 880, 0, 48120, 10164, 850]
    total = sum(layer.parameters for layer in inspector.layers)
    assert total == Training.read(finished.paths.training).parameters


def test_feature_maps_are_those_of_the_kernels(inspector: Inspector, images: NDArray[np.uint8]) -> None:
    outputs = inspector.activations(images[:3])
    weights = inspector.layers[2].weights  # of C3: (16, 6, 3, 3)
    assert weights is not None
    maps = np.stack(
        [
            sum(correlate(image[..., i], kernel[i], mode="valid") for i in range(6))
            for image in outputs["S2"]
            for kernel in weights
        ]
    ).reshape(3, 16, 11, 11)
    # the bias is one number for each map, and ReLU clips at 0
    for number in range(16):
        shown = outputs["C3"][..., number]
        active = shown > 0
        if active.any():
            bias = shown[active] - maps[:, number][active]
            np.testing.assert_allclose(bias, bias[0], atol=1e-5)
    blocks = outputs["C1"].reshape(3, 13, 2, 13, 2, 6)
    np.testing.assert_array_equal(outputs["S2"], blocks.max(axis=(2, 4)))


def test_the_last_layer_gives_the_models_answers(inspector: Inspector, images: NDArray[np.uint8]) -> None:
    output = inspector.activations(images, ["output"])["output"]
    np.testing.assert_allclose(output, inspector.probabilities(images), atol=1e-6)


def test_embedding_is_the_principal_plane_with_a_fixed_sign() -> None:
    rng = np.random.default_rng(0)
    # long along the first axis, shorter along the second, thin along the others
    features = (rng.normal(size=(500, 6)) * [9, 4, 0.1, 0.1, 0.1, 0.1] + 5).astype(np.float32)
    embedding = inspection.embed(features)
    centred = features - features.mean(axis=0)
    for axis in (0, 1):
        assert np.corrcoef(embedding.points[:, axis], centred[:, axis])[0, 1] > 0.999
    assert embedding.explained[0] > embedding.explained[1] > 0.1
    assert sum(embedding.explained) == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(
        np.abs(inspection.embed(-features).points), np.abs(embedding.points), atol=1e-4
    )
    assert np.corrcoef(inspection.embed(-features).points[:, 0], -centred[:, 0])[0, 1] > 0.999


def test_embedding_of_equal_images_is_a_point() -> None:
    embedding = inspection.embed(np.ones((4, 3), np.float32))
    np.testing.assert_allclose(embedding.points, 0)
    assert embedding.explained == (0, 0)


def test_occlusion_is_the_drop_of_the_answers_probability(
    inspector: Inspector, images: NDArray[np.uint8]
) -> None:
    image = images[0]
    occlusion = inspection.occlude(inspector, image)
    before = inspector.probabilities(image[None])[0]
    assert occlusion.answer == before.argmax()
    covered = image.copy()
    covered[12:17, 9:14] = 0  # 5x5 pixels around row 14, column 11
    after = inspector.probabilities(covered[None])[0]
    assert occlusion.drop[14, 11] == pytest.approx(before.max() - after[occlusion.answer], abs=1e-6)
    assert occlusion.drop.max() > 0.01
    for row, column in np.ndindex(28, 28):  # paper on paper changes nothing
        if not image[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3].any():
            assert occlusion.drop[row, column] == pytest.approx(0, abs=1e-6)
            assert not occlusion.changed[row, column]


@pytest.mark.parametrize("step", [2, 3, 5])
def test_patch_that_moves_by_several_pixels_visits_every_nth_place(
    inspector: Inspector, images: NDArray[np.uint8], step: int
) -> None:
    every = inspection.occlude(inspector, images[0])
    some = inspection.occlude(inspector, images[0], step=step)
    np.testing.assert_allclose(some.drop, every.drop[::step, ::step], atol=1e-6)
    np.testing.assert_array_equal(some.changed, every.changed[::step, ::step])


def test_one_image_of_each_digit_is_chosen_and_a_correct_one_if_there_is_one() -> None:
    labels = np.array([3, 3, 1, 1, 7], np.uint8)
    correct = np.array([False, True, True, True, False])
    assert inspection.one_of_each(labels, correct) == {1: 2, 3: 1, 7: 4}


def test_of_many_classes_those_with_the_lowest_recall_are_chosen() -> None:
    labels = np.repeat(np.arange(300, dtype=np.uint16), 4)
    correct = np.ones(1200, bool)
    correct[4 * 250 : 4 * 250 + 4] = correct[[4 * 7, 4 * 9]] = False
    assert inspection.one_of_each(labels, correct, most=3) == {7: 29, 9: 37, 250: 1000}
    assert len(inspection.one_of_each(labels, correct)) == inspection.MOST_CLASSES
