"""What the served version sees in one image: feature maps, and an occlusion map.

ONNX Runtime computes both, as for ``lenet5 explain``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lenet5.core.paths import Paths
from lenet5.serving import predictor
from lenet5.serving.errors import RequestError
from lenet5.serving.model_watch import ServedModel
from lenet5.stages.evaluate import inspection
from lenet5.stages.evaluate.inspection import Inspector

MOST_MAPS = 32
"""Of one layer. A wider layer shows its first ones."""
PLACES = 28
"""Of the patch along each side of an image. In larger images it moves by several pixels."""
PATCH = 5
"""Side of the patch in pixels, if it moves by one."""


class Explainer:
    """Reads the inner values of one version at a time; it loads them with the first question."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._loaded: tuple[str, Inspector] | None = None

    def explain(self, served: ServedModel, image: NDArray[np.uint8]) -> dict[str, Any]:
        """Explain the answer for one image. Only one call may run at a time.

        Args:
            served: the version that answers.
            image: uint8 (H, W), or (H, W, 3) for RGB.

        Returns:
            ``layers``: of each convolution its ``name``, the number of its ``maps``, the ``largest`` value,
            and ``values``: uint8 (maps, height, width), where 255 is the largest value and 0 stands for 0 and
            less. ``occlusion``: ``patch``, the side of the patch, ``step``, by which it moves, ``answer``,
            and ``drop``: float32 (rows, columns), how much the probability of the answer falls.

        Raises:
            RequestError: the file of the version is missing.
        """
        inspector = self._inspector(served)
        step = -(-max(image.shape[:2]) // PLACES)
        patch = PATCH * step + (PATCH * step + 1) % 2
        occlusion = inspection.occlude(inspector, image, patch, step)
        names = [layer.name for layer in inspector.layers if layer.kind == "convolution"]
        outputs = inspector.activations(image[None], names) if names else {}
        return {
            "layers": [_maps(name, outputs[name][0]) for name in names],
            "occlusion": {
                "patch": patch,
                "step": step,
                "answer": served.model.description.classes[occlusion.answer],
                "drop": occlusion.drop,
            },
        }

    def _inspector(self, served: ServedModel) -> Inspector:
        if self._loaded is None or self._loaded[0] != served.digest:
            content = predictor.cached_onnx(self._paths, served.digest)
            if content is None:
                raise RequestError(
                    503,
                    "no_file",
                    f"The file of version {served.number} is missing, from which inner values are read.",
                    expected="the downloaded file in .lenet5/models",
                    fix="start the service again; `POST /predict` answers meanwhile",
                )
            self._loaded = served.digest, Inspector(content)
        return self._loaded[1]


def _maps(name: str, output: NDArray[np.float32]) -> dict[str, Any]:
    """Return the feature maps of one layer, float32 (height, width, maps), in grey levels."""
    largest = float(output.max())
    levels = np.rint(np.clip(output / max(largest, 1e-12), 0, 1) * 255).astype(np.uint8)
    shown = np.ascontiguousarray(levels.transpose(2, 0, 1)[:MOST_MAPS])
    return {"name": name, "maps": output.shape[-1], "largest": largest, "values": shown}
