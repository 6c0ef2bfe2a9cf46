"""Look inside a model through its ONNX file: kernels, feature maps, an embedding, and occlusion.

ONNX Runtime computes the inner tensors, which are added to the outputs of the graph. TensorFlow is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet5.model import onnx_session
from lenet5.model.onnx_session import PIXELS, PROBABILITIES

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession

MOST_CLASSES = 10
"""Largest number of classes of which an image is shown layer by layer."""
Kind = str
"""``convolution``, ``pooling`` or ``dense``."""
PAPER = {"c1": "C1", "s2": "S2", "c3": "C3", "s4": "S4", "c5": "C5", "f6": "F6"}
"""The names of layers in figure 2 of the paper, by their names in the network. Others keep their names."""
OPERATORS = {
    "Conv": "convolution",
    "MaxPool": "pooling",
    "AveragePool": "pooling",
    "MatMul": "dense",
    "Gemm": "dense",
}
AFTER = {"Add", "Relu", "Tanh", "Sigmoid", "Softmax", "Elu", "Selu", "LeakyRelu"}
"""Operators that belong to the layer before them: the bias and the activation."""


@dataclass(frozen=True)
class Layer:
    """One layer of a network."""

    name: str
    kind: Kind
    tensor: str
    """Name of its output in the ONNX graph, after the activation."""
    weights: NDArray[np.float32] | None
    """Of a convolution: (maps, input maps, height, width); of a dense layer: (inputs, units); else None."""
    biases: int
    """Number of biases."""

    @property
    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return 0 if self.weights is None else self.weights.size + self.biases


class Inspector:
    """A model whose inner tensors can be read."""

    def __init__(self, content: bytes) -> None:
        """Load a model from the bytes of an ONNX file.

        Raises:
            DataError: ONNX Runtime cannot load the bytes as a model.
        """
        import onnx

        self._plain = onnx_session.load(content)
        self.description = onnx_session.description(self._plain)
        model = onnx.load_from_string(content)
        self.layers = layers(model.graph)
        inner = [layer.tensor for layer in self.layers if layer.tensor != PROBABILITIES]
        for tensor in inner:
            value = onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)
            model.graph.output.append(value)
        self._session: InferenceSession = onnx_session.load(model.SerializeToString())

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score images: uint8 (N, H, W) or (N, H, W, 3) → float32 (N, classes)."""
        return onnx_session.probabilities(self._plain, images)

    def activations(
        self, images: NDArray[np.uint8], names: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of layers.

        Args:
            images: uint8 (N, H, W), or (N, H, W, 3) for RGB.
            names: the layers; None for all.

        Returns:
            By the name of the layer: float32 (N, height, width, maps) of a convolution or a pooling, and
            float32 (N, units) of a dense layer.
        """
        wanted = [layer for layer in self.layers if names is None or layer.name in names]
        tensors = [layer.tensor for layer in wanted]
        size = onnx_session.BATCH
        batches = [
            self._session.run(tensors, {PIXELS: np.asarray(images[first : first + size])})
            for first in range(0, len(images), size)
        ]
        joined = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        return {
            layer.name: value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
            for layer, value in zip(wanted, joined, strict=True)
        }


def layers(graph: "onnx.GraphProto") -> list[Layer]:
    """Find the layers of a graph that :mod:`lenet5.model.onnx_export` wrote, in order."""
    from onnx import numpy_helper

    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    found: list[Layer] = []
    for node in graph.node:
        of_node = [constants[name] for name in node.input if name in constants]
        if node.op_type in OPERATORS:
            weights = of_node[0] if of_node else None
            biases = sum(array.size for array in of_node[1:])
            name = PAPER.get(node.name, node.name)
            found.append(Layer(name, OPERATORS[node.op_type], node.output[0], weights, biases))
        elif found and node.op_type in AFTER and found[-1].tensor in node.input:
            biases = found[-1].biases + sum(array.size for array in of_node)
            found[-1] = replace(found[-1], tensor=node.output[0], biases=biases)
    return found


@dataclass(frozen=True)
class Embedding:
    """Images as points in a plane."""

    points: NDArray[np.float64]
    """(N, 2)."""
    explained: tuple[float, float]
    """Share of the variance along each axis."""


def embed(features: NDArray[np.float32]) -> Embedding:
    """Project features to their two principal components.

    The sign of a component is free. Here its entry with the largest absolute value is positive.

    Args:
        features: (N, units).
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    variances, vectors = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = vectors[:, ::-1][:, :2]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.where(axes[largest, [0, 1]] < 0, -1, 1)
    total = max(float(variances.sum()), np.finfo(float).tiny)
    first, second = (max(float(variance), 0.0) / total for variance in variances[::-1][:2])
    return Embedding(centred @ axes, (first, second))


@dataclass(frozen=True)
class Occlusion:
    """What the answer for one image rests on."""

    answer: int
    """Position of the answer in the names of the classes."""
    drop: NDArray[np.float32]
    """(rows, columns): how much the probability of the answer falls when the patch covers the pixels around
    this place; (H, W) if the patch moves by one pixel.

    Below 0 where the probability rises.
    """
    changed: NDArray[np.bool_]
    """(rows, columns): whether the answer becomes another class."""


def occlude(inspector: Inspector, image: NDArray[np.uint8], patch: int = 5, step: int = 1) -> Occlusion:
    """Move a square patch of zeros over an image, and score each result (Zeiler and Fergus, 2014).

    Args:
        inspector: the model.
        image: uint8 (H, W), or (H, W, 3) for RGB.
        patch: side of the patch in pixels; odd, so that it has a centre.
        step: pixels between two places of the patch.
    """
    height, width = image.shape[:2]
    before = inspector.probabilities(image[None])[0]
    answer = int(before.argmax())
    places = [(row, column) for row in range(0, height, step) for column in range(0, width, step)]
    covered = np.repeat(image[None], len(places), axis=0)
    half = patch // 2
    for place, (row, column) in enumerate(places):
        covered[place, max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] = 0
    after = inspector.probabilities(covered)
    shape = -(-height // step), -(-width // step)
    drop = (before[answer] - after[:, answer]).reshape(shape)
    return Occlusion(answer, drop, (after.argmax(axis=1) != answer).reshape(shape))


def one_of_each(
    labels: NDArray[np.integer], correct: NDArray[np.bool_], most: int = MOST_CLASSES
) -> Mapping[int, int]:
    """Return the position of the first correct image of each class, or of the first one if none is correct.

    Args:
        labels: (N,), positions of the classes.
        correct: (N,), whether the model classifies the image correctly.
        most: of more classes, only so many are returned: those with the lowest recall.
    """
    classes, images = np.unique(labels, return_counts=True)
    recall = np.bincount(labels, correct)[classes] / images
    chosen = {}
    for code in np.sort(classes[recall.argsort(kind="stable")[:most]]):
        of_class = np.flatnonzero(labels == code)
        right = of_class[correct[of_class]]
        chosen[int(code)] = int(right[0] if len(right) else of_class[0])
    return chosen
