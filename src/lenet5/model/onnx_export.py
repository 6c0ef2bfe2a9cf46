"""Write a Keras model as an ONNX graph; equal models give equal bytes.

The exporter of Keras needs TensorFlow or, on JAX, one more package. This one needs neither, so a training
exports its model on every engine. It knows the layers that ``lenet5.model.network`` uses.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lenet5.core.dataset import DIGITS, Description
from lenet5.model import keras_file
from lenet5.model.onnx_session import DESCRIPTION, PIXELS, PROBABILITIES

if TYPE_CHECKING:
    import keras
    import onnx

WEIGHTS = "lenet5.weights"
"""Metadata key of the ONNX file for the digest of its weights: :func:`keras_file.weights_digest`."""
_OPSET, _IR_VERSION = 17, 8
"""Versions of the operators and of the file format. ONNX Runtime reads both since 1.12 of the year 2022."""
_PADDING = {"valid": "VALID", "same": "SAME_UPPER"}
_POOLING = {"MaxPooling2D": "MaxPool", "AveragePooling2D": "AveragePool"}
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "softmax": "Softmax"}
_FLOAT32 = 1  # onnx.TensorProto.FLOAT; `onnx` is imported late, because few callers export


def export(model: "keras.Model", description: Description = DIGITS) -> bytes:
    """Return a model as the content of an ONNX file; equal weights and layers give equal bytes.

    Args:
        model: a sequential model, uint8 (B, H, W) or (B, H, W, channels) → float32 (B, classes).
        description: what it was trained on; the file holds it as metadata.

    Raises:
        ValueError: the model has a layer, or an option of a layer, that this module does not know.
    """
    import onnx

    chain = _Chain()
    for layer in model.layers:
        chain.append(layer)
        if layer is model.layers[0] and len(model.input_shape) == 4:  # RGB: (B, H, W, 3)
            chain.move_channels_first()
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            chain.nodes,
            model.name,
            [
                onnx.helper.make_tensor_value_info(
                    PIXELS, onnx.TensorProto.UINT8, ["images", *model.input_shape[1:]]
                )
            ],
            [
                onnx.helper.make_tensor_value_info(
                    PROBABILITIES, onnx.TensorProto.FLOAT, ["images", *model.output_shape[1:]]
                )
            ],
            chain.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="lenet5",
    )
    made.graph.node[-1].output[:] = [PROBABILITIES]
    onnx.helper.set_model_props(
        made, {WEIGHTS: keras_file.weights_digest(model), DESCRIPTION: description.model_dump_json()}
    )
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


class _Chain:
    """ONNX nodes, each of which reads the result of the one before it. They are named after the layers.

    Images have the shape (B, C, H, W) in ONNX, and (B, H, W, C) in Keras.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def move_channels_first(self) -> None:
        """Add a node: (B, H, W, C) → (B, C, H, W)."""
        self._add("Transpose", "channels_first", perm=[0, 3, 1, 2])

    def append(self, layer: "keras.Layer") -> None:
        """Add the nodes of one layer.

        Raises:
            ValueError: the layer, or an option of it, is not known.
        """
        name, kind, config = layer.name, type(layer).__name__, layer.get_config()
        weights = [np.asarray(array) for array in layer.get_weights()]
        if kind == "Rescaling" and config["offset"] == 0:
            self._add("Cast", f"{name}.cast", to=_FLOAT32)
            self._add("Mul", name, {"scale": np.float32(config["scale"])})
        elif kind == "Reshape" and config["target_shape"][2:] in ((1,), [1]):
            height, width, channels = config["target_shape"]
            self._add("Reshape", name, {"shape": np.array([-1, channels, height, width])})
        elif kind == "ZeroPadding2D":
            (top, bottom), (left, right) = config["padding"]
            self._add("Pad", name, {"pads": np.array([0, 0, top, left, 0, 0, bottom, right])})
        elif kind == "Conv2D" and (config["dilation_rate"], config["groups"]) in (((1, 1), 1), ([1, 1], 1)):
            kernel, bias = weights  # (KH, KW, in, out), (out,)
            self._add(
                "Conv",
                name,
                {"kernel": kernel.transpose(3, 2, 0, 1), "bias": bias},
                strides=config["strides"],
                auto_pad=_PADDING[config["padding"]],
            )
            self._activate(name, config)
        elif kind in _POOLING:
            self._add(
                _POOLING[kind],
                name,
                kernel_shape=config["pool_size"],
                strides=config["strides"],
                auto_pad=_PADDING[config["padding"]],
            )
        elif kind == "Flatten":
            self._add("Transpose", f"{name}.channels_last", perm=[0, 2, 3, 1])  # as Keras flattens
            self._add("Flatten", name)
        elif kind == "Dense":
            kernel, bias = weights  # (in, out), (out,)
            self._add("Gemm", name, {"kernel": kernel, "bias": bias})
            self._activate(name, config)
        else:
            raise ValueError(f"the layer {name}, {kind} with {config}, has no known ONNX operator")

    def _activate(self, name: str, config: Mapping[str, Any]) -> None:
        activation = config["activation"]
        if activation == "linear":
            return
        if activation not in _ACTIVATIONS:
            raise ValueError(f"the activation {activation} of the layer {name} has no known ONNX operator")
        self._add(_ACTIVATIONS[activation], f"{name}.{activation}")

    def _add(
        self,
        operator: str,
        name: str,
        constants: Mapping[str, NDArray[Any] | np.generic] | None = None,
        **attributes: Any,
    ) -> None:
        """Add a node that reads the result of the node before it, and then the constants, in their order."""
        import onnx

        before = self.nodes[-1].output[0] if self.nodes else PIXELS
        named = {f"{name}.{key}": np.ascontiguousarray(array) for key, array in (constants or {}).items()}
        self.constants += [onnx.numpy_helper.from_array(array, key) for key, array in named.items()]
        self.nodes.append(
            onnx.helper.make_node(operator, [before, *named], [f"{name}.result"], name, **attributes)
        )
