"""Define the parameters of the stage ``validate``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lenet5.core.params import Natural, Positive, Section, Share


class Validate(Section):
    """The section ``validate``; the comments in ``params.yaml`` describe each value."""

    height: Positive
    width: Positive
    channels: Literal[1, 3]
    pixel_min: Natural
    pixel_max: Positive
    ink_threshold: Natural
    max_ink_change: Share
    max_class_share_change: Share
    max_train_duplicates: Natural
    max_test_in_train: Natural
    max_ink_drift: Annotated[float, Field(gt=0)]
    max_class_drift: Annotated[float, Field(gt=0)]
    max_test_share: Share
    near_duplicate_share: Share
    max_train_near_duplicates: Natural
    max_test_near_train: Natural
    max_agreement_loss: Share
    max_mean_distance: Annotated[float, Field(gt=0)]
    max_suspect_labels: Share
    max_unlike_images: Share
    false_alarm_rate: Annotated[float, Field(gt=0, lt=0.5)]

    @model_validator(mode="after")
    def _ordered(self) -> "Validate":
        low, high = self.pixel_min, self.pixel_max
        if low >= high:
            raise ValueError(f"pixel_min must be below pixel_max, found {low} and {high}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an image: (H, W) if it is grey, (H, W, 3) if it is RGB."""
        sides = (self.height, self.width)
        return sides if self.channels == 1 else (*sides, self.channels)

    @property
    def near_duplicate_pixels(self) -> int:
        """Return the largest number of pixels in which near-duplicates differ."""
        return int(self.near_duplicate_share * self.height * self.width)
