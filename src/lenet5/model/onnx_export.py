"""The ONNX file, for clients without TensorFlow: the same model gives the same bytes, as with ``.keras``."""

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lenet5.core.quiet import quiet_libraries
from lenet5.model import keras_file
from lenet5.model.onnx_session import PIXELS, PROBABILITIES

if TYPE_CHECKING:
    import keras
    import onnx

WEIGHTS = "lenet5.weights"
"""The file's own note of which weights it holds: :func:`archive.weights_digest`."""


def export(model: "keras.Model") -> bytes:
    """A model as the content of an ONNX file: equal weights and layers give equal bytes.

    The exporter numbers what it makes, in an order that differs from process to process: every name but those
    of the input and the output is given anew, in the order in which the graph is computed.
    """
    import numpy as np
    import onnx

    model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # the exporter wants a model that was called
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        with quiet_libraries(), warnings.catch_warnings():
            # how Keras finds out that this NumPy needs its patch of tf2onnx
            warnings.filterwarnings("ignore", "In the future `np.object` will", FutureWarning)
            model.export(exported, format="onnx", verbose=False)
        normal = normalise(onnx.load(exported))
    normal.graph.name = model.name
    onnx.helper.set_model_props(normal, {WEIGHTS: keras_file.weights_digest(model)})
    onnx.checker.check_model(normal, full_check=True)
    return bytes(normal.SerializeToString(deterministic=True))


def normalise(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The same graph under names, and in an order, that depend on its computation alone.

    A node is named by its place and its operator, a constant by the input that first takes it: ``3.Conv``,
    ``3.Conv.W``. It has one input and one output, which get this project's names.
    """
    import onnx

    graph = model.graph
    [pixels], [probabilities] = graph.input, graph.output
    nodes = _in_order(graph)
    constants = {constant.name: constant for constant in graph.initializer}
    names = {"": "", pixels.name: PIXELS}  # an optional input that is left out has no name
    for number, node in enumerate(nodes):
        node.name = f"{number}.{node.op_type}"
        formal = onnx.defs.get_schema(node.op_type).inputs
        for place, name in enumerate(node.input):
            names.setdefault(name, f"{node.name}.{formal[min(place, len(formal) - 1)].name}")
        for place, name in enumerate(node.output):
            names[name] = PROBABILITIES if name == probabilities.name else f"{node.name}.{place}"
    for node in nodes:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for name, constant in constants.items():
        constant.name = names.get(name, "")  # what no node takes is left out
    for value in (pixels, probabilities):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    normal = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            graph.name,
            [pixels],
            [probabilities],
            sorted((c for c in constants.values() if c.name), key=lambda constant: constant.name),
        ),
        opset_imports=[known for known in model.opset_import if known.domain == ""],
        ir_version=model.ir_version,
    )
    normal.producer_name, normal.producer_version = model.producer_name, model.producer_version
    return normal


def _in_order(graph: "onnx.GraphProto") -> "list[onnx.NodeProto]":
    """The nodes that lead to the outputs, each after those whose results it takes, first inputs first."""
    made_by = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, onnx.NodeProto] = {}  # by first output

    def visit(name: str) -> None:
        node = made_by.get(name)
        if node is None or node.output[0] in ordered:
            return
        for needed in node.input:
            visit(needed)
        ordered[node.output[0]] = node

    for output in graph.output:
        visit(output.name)
    return list(ordered.values())
