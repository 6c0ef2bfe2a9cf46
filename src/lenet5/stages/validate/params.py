"""Define the parameters of the stage ``validate``."""

from typing import Annotated

from pydantic import Field, model_validator

from lenet5.core.params import Natural, Positive, Section, Share


class Validate(Section):
    """The section ``validate``; the comments in ``params.yaml`` describe each value."""

    height: Positive
    width: Positive
    pixel_min: Natural
    pixel_max: Positive
    ink_threshold: Natural
    ink_share_min: Share
    ink_share_max: Share
    class_share_min: Share
    class_share_max: Share
    max_train_duplicates: Natural
    max_test_in_train: Natural
    max_ink_drift: Annotated[float, Field(gt=0)]
    max_class_drift: Annotated[float, Field(gt=0)]
    max_test_share: Share
    near_duplicate_pixels: Natural
    max_train_near_duplicates: Natural
    max_test_near_train: Natural
    max_agreement_loss: Share
    max_mean_distance: Annotated[float, Field(gt=0)]
    max_suspect_labels: Share
    max_unlike_images: Share
    false_alarm_rate: Annotated[float, Field(gt=0, lt=0.5)]

    @model_validator(mode="after")
    def _ordered(self) -> "Validate":
        for name in ("pixel", "ink_share", "class_share"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if low >= high:
                raise ValueError(f"{name}_min must be below {name}_max, found {low} and {high}")
        return self
