"""Look inside a model through its ONNX file: kernels, feature maps, an embedding, and occlusion.

ONNX Runtime computes the inner tensors, which are added to the outputs of the graph. TensorFlow is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lenet5.model import onnx_session
from lenet5.model.onnx_session import PIXELS, PROBABILITIES

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession

Kind = str
"""``convolution``, ``pooling`` or ``dense``."""
LENET = ("convolution", "pooling", "convolution", "pooling", "dense", "dense", "dense")
"""The layers of LeNet-5, by kind."""
LENET_NAMES = ("C1", "S2", "C3", "S4", "C5", "F6", "output")
"""Their names in figure 2 of the paper."""
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
        model = onnx.load_from_string(content)
        self.layers = layers(model.graph)
        inner = [layer.tensor for layer in self.layers if layer.tensor != PROBABILITIES]
        for tensor in inner:
            value = onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None)
            model.graph.output.append(value)
        self._session: InferenceSession = onnx_session.load(model.SerializeToString())

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score images: uint8 (N, 28, 28) → float32 (N, 10)."""
        return onnx_session.probabilities(self._plain, images)

    def activations(
        self, images: NDArray[np.uint8], names: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Return the outputs of layers.

        Args:
            images: uint8 (N, 28, 28).
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
    """Find the layers of a canonical graph (:func:`lenet5.model.onnx_export.canonicalize`), in order."""
    from onnx import numpy_helper

    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    found: list[tuple[Kind, str, NDArray[np.float32] | None, int]] = []
    for node in graph.node:
        if node.op_type in OPERATORS:
            weights = constants.get(node.input[1]) if len(node.input) > 1 else None
            bias = constants[node.input[2]].size if len(node.input) > 2 and node.input[2] else 0
            found.append((OPERATORS[node.op_type], node.output[0], weights, bias))
        elif found and node.op_type in AFTER and found[-1][1] in node.input:
            kind, before, weights, bias = found[-1]
            others = [constants[name].size for name in node.input if name != before and name in constants]
            found[-1] = (kind, node.output[0], weights, bias + sum(others))
    kinds = tuple(kind for kind, *_ in found)
    names = LENET_NAMES if kinds == LENET else _numbered(kinds)
    return [Layer(name, *facts) for name, facts in zip(names, found, strict=True)]


def _numbered(kinds: Sequence[Kind]) -> list[str]:
    names = [f"{kind} {kinds[: at + 1].count(kind)}" for at, kind in enumerate(kinds)]
    return [*names[:-1], "output"]


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

    digit: int
    """The answer."""
    drop: NDArray[np.float32]
    """(H, W): how much the probability of the answer falls when the patch covers the pixels around this one.

    Below 0 where the probability rises.
    """
    changed: NDArray[np.bool_]
    """(H, W): whether the answer becomes another digit."""


def occlude(inspector: Inspector, image: NDArray[np.uint8], patch: int = 5) -> Occlusion:
    """Move a square patch of paper over an image, and score each result (Zeiler and Fergus, 2014).

    Args:
        inspector: the model.
        image: uint8 (H, W), 0 for paper.
        patch: side of the patch in pixels; odd, so that it has a centre.
    """
    height, width = image.shape
    before = inspector.probabilities(image[None])[0]
    digit = int(before.argmax())
    covered = np.repeat(image[None], height * width, axis=0)
    half = patch // 2
    for place, (row, column) in enumerate(np.ndindex(height, width)):
        covered[place, max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] = 0
    after = inspector.probabilities(covered)
    drop = (before[digit] - after[:, digit]).reshape(height, width)
    return Occlusion(digit, drop, (after.argmax(axis=1) != digit).reshape(height, width))


def one_of_each(labels: NDArray[np.uint8], correct: NDArray[np.bool_]) -> Mapping[int, int]:
    """Return the position of the first correct image of each digit, or of the first one if none is correct.

    Args:
        labels: (N,), 0 to 9.
        correct: (N,), whether the model reads the image correctly.
    """
    chosen = {}
    for digit in range(10):
        of_digit = np.flatnonzero(labels == digit)
        if len(of_digit):
            right = of_digit[correct[of_digit]]
            chosen[digit] = int(right[0] if len(right) else of_digit[0])
    return chosen
