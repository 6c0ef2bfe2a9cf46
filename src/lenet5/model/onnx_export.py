"""Export a model to ONNX for clients without TensorFlow; equal models give equal bytes."""

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
"""Metadata key of the ONNX file for the digest of its weights: :func:`keras_file.weights_digest`."""


def export(model: "keras.Model") -> bytes:
    """Return a model as the content of an ONNX file; equal weights and layers give equal bytes.

    The exporter numbers nodes in an order that differs between processes, so all names are replaced.
    """
    import numpy as np
    import onnx

    model(np.zeros((1, *model.input_shape[1:]), np.uint8))  # the exporter needs a model that was called once
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        with quiet_libraries(), warnings.catch_warnings():
            # Keras reads np.object to find out whether tf2onnx needs a patch
            warnings.filterwarnings("ignore", "In the future `np.object` will", FutureWarning)
            model.export(exported, format="onnx", verbose=False)
        canonical = canonicalize(onnx.load(exported))
    canonical.graph.name = model.name
    onnx.helper.set_model_props(canonical, {WEIGHTS: keras_file.weights_digest(model)})
    onnx.checker.check_model(canonical, full_check=True)
    return bytes(canonical.SerializeToString(deterministic=True))


def canonicalize(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the same graph with names and an order that depend on the computation only.

    A node is named after its position and its operator, such as ``3.Conv``. A constant is named after the
    first node input that uses it, such as ``3.Conv.W``. The only input and the only output get the names that
    ``onnx_session`` defines. Unused constants are removed.
    """
    import onnx

    graph = model.graph
    [pixels], [probabilities] = graph.input, graph.output
    nodes = _topological_order(graph)
    constants = {constant.name: constant for constant in graph.initializer}
    names = {"": "", pixels.name: PIXELS}  # an omitted optional input has an empty name
    for number, node in enumerate(nodes):
        node.name = f"{number}.{node.op_type}"
        formal = onnx.defs.get_schema(node.op_type).inputs
        for position, name in enumerate(node.input):
            names.setdefault(name, f"{node.name}.{formal[min(position, len(formal) - 1)].name}")
        for position, name in enumerate(node.output):
            names[name] = PROBABILITIES if name == probabilities.name else f"{node.name}.{position}"
    for node in nodes:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for name, constant in constants.items():
        constant.name = names.get(name, "")  # a constant that no node uses gets no name and is removed below
    for value in (pixels, probabilities):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    canonical = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            graph.name,
            [pixels],
            [probabilities],
            sorted((c for c in constants.values() if c.name), key=lambda constant: constant.name),
        ),
        opset_imports=[opset for opset in model.opset_import if opset.domain == ""],
        ir_version=model.ir_version,
    )
    canonical.producer_name, canonical.producer_version = model.producer_name, model.producer_version
    return canonical


def _topological_order(graph: "onnx.GraphProto") -> "list[onnx.NodeProto]":
    """Return the nodes that lead to the outputs, each one after the nodes whose results it uses."""
    producers = {name: node for node in graph.node for name in node.output}
    ordered: dict[str, onnx.NodeProto] = {}  # by first output

    def visit(name: str) -> None:
        node = producers.get(name)
        if node is None or node.output[0] in ordered:
            return
        for operand in node.input:
            visit(operand)
        ordered[node.output[0]] = node

    for output in graph.output:
        visit(output.name)
    return list(ordered.values())
