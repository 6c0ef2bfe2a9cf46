"""Convert the labels of a source to positions in ``ingest.classes``."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lenet5.core.dataset import Array
from lenet5.core.errors import DataError

_LISTED = 10


def tidy(array: Array, origin: str) -> Array:
    """Return labels of any type as int64 (N,) or as text (N,).

    Args:
        array: (N,) or (N, 1): integers of any width, booleans, floats that are whole numbers, text; or
            (N, C), one-hot.
        origin: the file, for errors.

    Raises:
        DataError: the labels have another shape or type, an image has no label or several.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "biuf":
        array = _one_hot(array, origin)
    if array.ndim != 1:
        raise _refused(origin, f"shape {array.shape}", "labels = labels.argmax(axis=1)")
    match array.dtype.kind:
        case "b" | "i":
            return array.astype(np.int64)
        case "u":
            if array.size and int(array.max()) > np.iinfo(np.int64).max:
                raise _refused(origin, f"the label {array.max()}", "number the classes from 0")
            return array.astype(np.int64)
        case "f":
            whole = np.isfinite(array) & (np.abs(array) < 2**53)
            whole &= np.where(whole, array, 0.5) % 1 == 0
            if not whole.all():
                row = int(np.flatnonzero(~whole)[0])
                found = f"{array[row]!s} in row {row} (from 0), and {int((~whole).sum()) - 1} more"
                raise _refused(origin, found, 'labels = labels.astype("int64")')
            return array.astype(np.int64)
        case "S":
            return np.char.decode(array, "utf-8")
        case "U":
            return array
    raise _refused(origin, f"values of type {array.dtype}", "labels = labels.astype(str)")


def from_column(values: Sequence[Any] | Array, origin: str, start: int) -> Array:
    """Return some rows of a column of a table as labels.

    Args:
        values: text and numbers; None and NaN are missing values.
        origin: the file, for errors.
        start: the number of rows before them.

    Raises:
        DataError: a value is missing, or is neither text nor a number.
    """
    array = np.asarray(values)
    missing = np.array([value is None or value != value for value in values])  # noqa: PLR0124 (NaN)
    if missing.any():
        raise DataError(
            f"{origin} has rows without a label.",
            expected="a label in every row",
            found=f"{missing.sum():,} rows without one, the first is row {start + missing.argmax():,} "
            "(from 0)",
            fix="remove these rows, or label them",
        )
    if array.dtype != object:
        return tidy(array, origin)
    odd = [value for value in values if not isinstance(value, str | int | np.integer)]
    if odd:
        raise _refused(origin, f"a value of type {type(odd[0]).__name__}", "labels = labels.astype(str)")
    return np.asarray([str(value) for value in values])


def _one_hot(array: Array, origin: str) -> Array:
    ones = (array == 1).sum(axis=1)
    if not ((array == 0) | (array == 1)).all():
        raise _refused(
            origin, f"shape {array.shape} with other values than 0 and 1", "labels = labels.argmax(axis=1)"
        )
    if not (ones == 1).all():
        row = int(np.flatnonzero(ones != 1)[0])
        raise _refused(
            origin,
            f"{int(ones[row])} labels in row {row} (from 0), and {int((ones != 1).sum()) - 1} more such rows",
            "keep the images with one label: one = labels.sum(axis=1) == 1; "
            "images, labels = images[one], labels[one].argmax(axis=1)",
        )
    return array.argmax(axis=1)


def names_of(values: Array) -> Array:
    """Return labels as text: a number as its digits."""
    return values if values.dtype.kind == "U" else values.astype(str)


def in_order(names: Sequence[str]) -> list[str]:
    """Sort names of classes: numbers by value, before the others by name."""
    return sorted(names, key=lambda name: (not _is_number(name), int(name) if _is_number(name) else 0, name))


class Codes:
    """Converts labels to positions in ``classes``.

    A text is the name of a class. A number is one, too, if the classes are named by numbers; otherwise it is
    a position.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.dtype: type[np.uint8] | type[np.uint16] = np.uint8 if len(classes) <= 256 else np.uint16
        self._classes = list(classes)
        self._position = {name: position for position, name in enumerate(classes)}
        self._numbered = any(map(_is_number, classes))
        self.positions_are_names = self._classes == [str(number) for number in range(len(classes))]
        """A number is its own position, whichever of the two it is."""
        self.keeps_bytes = self.dtype is np.uint8 and (self.positions_are_names or not self._numbered)
        """Labels of one byte need no conversion."""

    def convert(self, labels: Array, origin: str) -> Array:
        """Return positions in the classes, uint8 or uint16 (N,).

        A number that is a position of no class stays, if it fits the dtype: the stage ``validate`` lists the
        images that have it.

        Raises:
            DataError: a label is the name of no class. The message lists all of them.
        """
        if labels.dtype.kind == "i" and (self.positions_are_names or not self._numbered):
            return self._positions(labels, origin)
        values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        positions = [self._lookup(str(value)) for value in values]
        unknown = [
            f"{value} ({count:,} images)"
            for value, count, position in zip(values, counts, positions, strict=True)
            if position is None
        ]
        if unknown:
            raise self._unknown(unknown, origin)
        return np.asarray(positions, self.dtype)[inverse]

    def _lookup(self, name: str) -> int | None:
        if name in self._position or self._numbered or not _is_number(name):
            return self._position.get(name)
        return int(name) if int(name) < len(self._classes) else None

    def _positions(self, labels: Array, origin: str) -> Array:
        limits = np.iinfo(self.dtype)
        outside = (labels < 0) | (labels > limits.max)
        if outside.any():
            values, counts = np.unique(labels[outside], return_counts=True)
            raise self._unknown(
                [f"{value} ({count:,} images)" for value, count in zip(values, counts, strict=True)], origin
            )
        return labels.astype(self.dtype)

    def _unknown(self, unknown: list[str], origin: str) -> DataError:
        shown = ", ".join(self._classes[:_LISTED])
        more = f", … ({len(self._classes)} classes)" if len(self._classes) > _LISTED else ""
        rest = f", and {len(unknown) - _LISTED} more" if len(unknown) > _LISTED else ""
        return DataError(
            f"{origin} has labels that ingest.classes does not name.",
            expected=f"{shown}{more}",
            found=", ".join(unknown[:_LISTED]) + rest,
            fix="correct ingest.classes in params.yaml; `lenet5 data init SOURCE` writes it from the data",
        )


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name


def _refused(origin: str, found: str, line: str) -> DataError:
    return DataError(
        f"{origin} has labels that cannot be used.",
        expected="one label for each image: whole numbers, text, or one-hot rows",
        found=found,
        fix=f"convert the labels, and save them again: {line}",
    )


def with_names(labels: Array, names: Sequence[str], first: int) -> Array:
    """Replace numbers by the names that the source gives them; a number without a name becomes its digits.

    Args:
        labels: (N,) whole numbers, or text, which stays.
        names: of the labels ``first``, ``first + 1``, …; empty if the source has none.
        first: the smallest label.
    """
    if not len(names) or labels.dtype.kind != "i":
        return labels
    values, inverse = np.unique(labels, return_inverse=True)
    texts = [str(names[v - first]) if 0 <= v - first < len(names) else str(v) for v in values.tolist()]
    return np.asarray(texts)[inverse]
