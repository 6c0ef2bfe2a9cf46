"""What the served version sees in one image: feature maps, and an occlusion map.

ONNX Runtime computes both, as for ``lenet5 explain``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.serving.model_watch import ServedModel
from lenet5.stages.evaluate import inspection
from lenet5.stages.evaluate.inspection import Inspector

MOST_MAPS = 32
"""Number of feature maps that are shown of one layer. A wider layer shows its first ones."""
PLACES = 28
"""Number of positions of the patch along each side. In larger images it moves by several pixels."""
PATCH = 5
"""Side of the patch in pixels, if it moves by one."""


class Explainer:
    """Reads the inner values of one version at a time. Only one call may run at a time."""

    def __init__(self) -> None:
        self._loaded: tuple[str, Inspector] | None = None

    def layers(self, served: ServedModel, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Return the feature maps of each convolution.

        Args:
            served: the version that answers.
            image: uint8 (H, W), or (H, W, 3) for RGB.

        Returns:
            The ``name`` of each layer, the number of its ``maps``, the ``largest`` value, and ``values``:
            uint8 (maps, height, width), where 255 is the largest value and 0 stands for 0 and less.
        """
        inspector = self._inspector(served)
        names = [layer.name for layer in inspector.layers if layer.kind == "convolution"]
        outputs = inspector.activations(image[None], names) if names else {}
        return [_maps(name, outputs[name][0]) for name in names]

    def occlusion(self, served: ServedModel, image: NDArray[np.uint8]) -> dict[str, Any]:
        """Cover each place of an image, and score the results.

        Returns:
            ``patch``, the side of the patch; ``step``, by which it moves; ``answer``, the name of a class;
            and ``drop``: float32 (rows, columns), how much the probability of the answer falls.
        """
        step = -(-max(image.shape[:2]) // PLACES)
        patch = PATCH * step + (PATCH * step + 1) % 2
        occlusion = inspection.occlude(self._inspector(served), image, patch, step)
        answer = served.model.description.classes[occlusion.answer]
        return {"patch": patch, "step": step, "answer": answer, "drop": occlusion.drop}

    def _inspector(self, served: ServedModel) -> Inspector:
        if self._loaded is None or self._loaded[0] != served.digest:
            self._loaded = served.digest, Inspector(served.content)
        return self._loaded[1]


def _maps(name: str, output: NDArray[np.float32]) -> dict[str, Any]:
    """Return the feature maps of one layer, float32 (height, width, maps), in grey levels."""
    largest = float(output.max())
    levels = np.rint(np.clip(output / max(largest, 1e-12), 0, 1) * 255).astype(np.uint8)
    shown = np.ascontiguousarray(levels.transpose(2, 0, 1)[:MOST_MAPS])
    return {"name": name, "maps": output.shape[-1], "largest": largest, "values": shown}
