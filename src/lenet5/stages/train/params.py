"""Define the parameters of the stage ``train``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lenet5.core.params import Natural, Positive, Section, Seed

CONVOLUTION: Mapping[str, Any] = MappingProxyType({"kernel_size": 3, "padding": "valid", "pooling": "max"})
"""The parameters that only a network with convolutions has, and the values that they keep without any.

Another value would change nothing, but equal networks would have different parameters.
"""


class Distortion(Section):
    """Limits of the random distortions; 0 turns one off."""

    shift: Annotated[float, Field(ge=0, le=14)]
    """Pixels."""
    rotation: Annotated[float, Field(ge=0, le=180)]
    """Degrees."""
    scale: Annotated[float, Field(ge=0, lt=1)]
    """Share of the height and of the width."""
    elastic: Annotated[float, Field(ge=0, le=14)] = 0
    """Standard deviation of the displacement of a pixel, in pixels; near pixels move alike."""
    blur: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the blurred image in the mixture with the sharp one."""
    background: Annotated[float, Field(ge=0)] = 0
    """Brightness of an uneven background, in units of the brightness of white; the sum is scaled back."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the pixels that get a random value."""
    outline: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the outline of the strokes in the mixture with the image."""
    lines: Annotated[int, Field(ge=0, le=100)] = 0
    """Segments of a bent line, whole or dashed."""
    invert: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the height or of the width that an inverted band covers."""
    combined: Natural = 0
    """The largest number of the changes from ``blur`` on in one image; 0: no limit."""
    undistorted: Annotated[float, Field(ge=0, le=1)] = 0
    """Share of the images of each batch that stay as they are."""

    @property
    def is_used(self) -> bool:
        """Return whether any image is distorted."""
        changes = self.model_dump(exclude={"combined", "undistorted"})
        return any(changes.values()) and self.undistorted < 1


class Train(Section):
    """The section ``train``; the comments in ``params.yaml`` describe each value."""

    seed: Seed
    architecture: Literal["lenet5", "mlp"]
    kernel_size: Literal[3, 5]
    padding: Literal["valid", "same"]
    pooling: Literal["max", "average"]
    l2: Annotated[float, Field(ge=0)]
    optimizer: Literal["adamw", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    beta_2: Annotated[float, Field(gt=0, lt=1)]
    schedule: Literal["cosine", "constant"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    calibration: Literal["temperature", "none"]
    distortion: Distortion
    batch_size: Positive
    epochs: Positive
    patience: Natural
    steps_per_execution: Positive
    threads: Positive
    precision: Literal["float32", "mixed_bfloat16"]
    workers: Positive

    @property
    def smallest_side(self) -> int:
        """Return the smallest height and width of an image, padding included, that fits the layers."""
        if self.architecture == "mlp":
            return 1
        side = 1
        for _ in range(2):  # backwards through two poolings, each after a convolution
            side = 2 * side + (self.kernel_size - 1 if self.padding == "valid" else 0)
        return side

    @model_validator(mode="after")
    def _divisible(self) -> "Train":
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size must be divisible by workers, found {self.batch_size} and {self.workers}"
            )
        return self

    @model_validator(mode="after")
    def _applicable(self) -> "Train":
        for name, value in CONVOLUTION.items():
            if self.architecture == "mlp" and getattr(self, name) != value:
                raise ValueError(
                    f"{name} must be {value!r} with the architecture mlp, which has no convolution and no "
                    f"pooling, found {getattr(self, name)!r}"
                )
        return self
