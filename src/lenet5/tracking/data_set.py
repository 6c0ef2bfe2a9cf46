"""What runs and versions say about the data set of a model: name, classes, images, licence, sources."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from lenet5.core.card import DataCard
from lenet5.core.dataset import DIGITS, Manifest
from lenet5.core.text import fitted, mask_urls
from lenet5.tracking import tags

_NAMES = 10
"""Names of classes in a message."""
_LONGEST = 5000
"""Characters of a tag. MLflow cuts the tags of a run after 8,000."""


@dataclass(frozen=True)
class DataSet:
    """The data set of a model."""

    card: DataCard
    manifest: Manifest
    """Of the raw data."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.manifest.description.classes

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an image: (H, W), or (H, W, 3) for RGB."""
        return self.manifest.splits["test"].images.shape[1:]

    @property
    def slug(self) -> str:
        """Return the name as MLflow and model hubs write names: ``fashion-mnist``."""
        return re.sub(r"[^\w.]+", "-", self.card.name.lower()).strip("-") or "data"

    @property
    def takes(self) -> str:
        """Return the input of a model in words."""
        axes = ", ".join(map(str, self.shape))
        return f"uint8 (N, {axes}), {'RGB' if len(self.shape) > 2 else 'grey'}, 0 for black and 255 for white"

    @property
    def gives(self) -> str:
        """Return the output of a model in words."""
        return f"float32 (N, {len(self.classes)}), the probability of each class"

    def tags(self) -> dict[str, str]:
        """Return the tags that identify the data set of a version."""
        origins = [rows.model_dump() | {"source": mask_urls(rows.source)} for rows in self.manifest.origins]
        return {
            tags.DATA_NAME: self.card.name,
            tags.CLASSES: fitted(json.dumps(self.classes, ensure_ascii=False), _LONGEST),
            tags.IMAGE_SHAPE: "x".join(map(str, self.shape)),
            tags.PICTURES: self.manifest.description.pictures,
            tags.LICENCE: self.card.stated_licence,
            tags.ORIGINS: fitted(json.dumps(origins), _LONGEST),
        }


def spdx(licence: str) -> str | None:
    """Return a licence as SPDX writes it; None for text that is no identifier and no expression of SPDX."""
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return None


NAME = "name"
_COMPARED = {
    tags.CLASSES: "classes",
    tags.IMAGE_SHAPE: "image shape",
    tags.DATA_NAME: NAME,
}
"""What the versions of one registered model have in common, by tag."""
_EARLIER = {tags.CLASSES: json.dumps(DIGITS.classes)}
"""Tags of a version that an earlier release registered. The name and the shape of its data are not known."""


def differences(candidate: Mapping[str, str], champion: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Compare the data sets of two versions by their tags.

    Returns:
        For each of ``classes``, ``image shape`` and ``name`` that differs: the value of the candidate and
        that of the champion, in words. What a version of an earlier release does not say is not compared.
    """
    one, other = ({**_EARLIER, **of_version} for of_version in (candidate, champion))
    found = {
        title: (one[tag], other[tag])
        for tag, title in _COMPARED.items()
        if tag in one and tag in other and one[tag] != other[tag]
    }
    if "classes" in found:
        own, theirs = found["classes"]
        found["classes"] = (_classes(own, theirs), _classes(theirs, own))
    return found


def _classes(own: str, other: str) -> str:
    """Describe classes by what the other ones lack."""
    try:
        names, others = json.loads(own), set(json.loads(other))
    except ValueError:  # a list that was too long for a tag
        return own[-100:]
    only = [name for name in names if name not in others]
    differing = only or [
        name for name, at_place in zip(names, json.loads(other), strict=False) if name != at_place
    ]
    if not differing:
        return f"{len(names)} (no other ones)"
    some = ", ".join(differing[:_NAMES]) + (" …" if len(differing) > _NAMES else "")
    return f"{len(names)} ({'only here' if only else 'in another order'}: {some})"
