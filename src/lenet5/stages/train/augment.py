"""Distort train images by small random amounts (LeCun et al., 1998, section III-A)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from lenet5.stages.train.params import Distortion

Pixels = NDArray[np.float32]

_SMOOTHNESS = 5.0
"""Standard deviation, in pixels, of the Gaussian weights that smooth a field of displacements."""

_CHANGES = ("blur", "background", "noise", "outline", "lines", "invert")


def draw_amounts(limits: Distortion, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw the amounts of distortion for ``count`` images, uniform within ``limits``.

    Returns:
        float64 (5, count): the angle in radians; the shares by which rows and columns are stretched; the
        pixels by which rows and columns are shifted.
    """
    angle = np.radians(random.uniform(-limits.rotation, limits.rotation, count))
    stretch = random.uniform(-limits.scale, limits.scale, (2, count))
    shift = random.uniform(-limits.shift, limits.shift, (2, count))
    amounts = np.stack([angle, *stretch, *shift])
    amounts[:, : _undistorted(limits, count)] = 0
    return amounts


def draw_fields(
    limits: Distortion, count: int, shape: tuple[int, ...], random: np.random.Generator
) -> Pixels | None:
    """Draw smooth fields of displacements, as by Simard et al. (2003); a limit of 0 draws no random number.

    Args:
        limits: the standard deviation of a displacement in pixels, for each image.
        count: number of images.
        shape: height and width of the images.
        random: the random numbers.

    Returns:
        float32 (2, count, H, W): by how many pixels the source of a pixel is lower and further right.
    """
    if not limits.elastic:
        return None
    rows, columns = (_smoothing(length) for length in shape)
    coarse = random.standard_normal((2, count, rows.shape[1], columns.shape[1]), np.float32)
    coarse[:, : _undistorted(limits, count)] = 0
    return np.matmul(np.float32(limits.elastic) * rows @ coarse, columns.T)


def augment(
    images: NDArray[np.float32], amounts: NDArray[np.float64], fields: Pixels | None = None
) -> NDArray[np.float32]:
    """Shift, rotate and scale each image by its own amounts, and bend it by its own field.

    Args:
        images: float32 (B, H, W, channels).
        amounts: float64 (5, B), from :func:`draw_amounts`.
        fields: float32 (2, B, H, W), from :func:`draw_fields`.

    Returns:
        float32 (B, H, W, channels), interpolated bilinearly; pixels from outside the original image are 0. If
        nothing moves, ``images`` itself.
    """
    moved = amounts.any(axis=0)
    if fields is not None:
        moved |= fields.any(axis=(0, 2, 3))
    if not moved.any():
        return images
    if not moved.all():
        result = images.copy()
        result[moved] = augment(
            images[moved], amounts[:, moved], None if fields is None else fields[:, moved]
        )
        return result
    _, height, width, _ = images.shape
    angle, zoom, shift = amounts[0], 1 + amounts[1:3], amounts[3:5]
    # maps a pixel of the result to its source: (2, 2, B), rows and columns relative to the centre
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix = np.array([[cosine * zoom[0], -sine * zoom[1]], [sine * zoom[0], cosine * zoom[1]]], np.float32)
    centre = np.array([(height - 1) / 2, (width - 1) / 2], np.float32)
    lines = np.arange(height, dtype=np.float32) - centre[0]
    points = np.arange(width, dtype=np.float32) - centre[1]
    offset = (centre[:, np.newaxis] + shift).astype(np.float32)  # (2, B)
    sources = (matrix[:, 0, :, np.newaxis] * lines + offset[..., np.newaxis])[..., np.newaxis]
    sources = sources + (matrix[:, 1, :, np.newaxis] * points)[:, :, np.newaxis, :]  # (2, B, H, W)
    if fields is not None:
        sources += fields
    return _interpolated(images, *sources)


def _interpolated(images: Pixels, rows: Pixels, columns: Pixels) -> Pixels:
    """Interpolate images bilinearly at rows and columns (B, H, W); outside of an image is 0."""
    count, height, width, channels = images.shape
    framed = np.zeros((count, height + 2, width + 2, channels), np.float32)
    framed[:, 1:-1, 1:-1] = images
    rows = np.clip(rows, -1, height) + np.float32(1)
    columns = np.clip(columns, -1, width) + np.float32(1)
    # in a narrow type, because reading the positions takes most of the time
    above = np.minimum(rows.astype(np.int32), np.int32(height))
    left = np.minimum(columns.astype(np.int32), np.int32(width))
    # a difference of float32 and int32 would be float64, which takes twice as long
    down = (rows - above.astype(np.float32))[..., np.newaxis]
    right = (columns - left.astype(np.float32))[..., np.newaxis]
    first = np.arange(count, dtype=np.int32)[:, np.newaxis, np.newaxis] * ((height + 2) * (width + 2))
    corner = first + above * (width + 2) + left
    values = framed.reshape(-1, channels)

    def line(start: int) -> Pixels:
        begin, end = values[start:].take(corner, axis=0), values[start + 1 :].take(corner, axis=0)
        end -= begin
        end *= right
        end += begin
        return end

    upper, lower = line(0), line(width + 2)
    lower -= upper
    lower *= down
    lower += upper
    return lower


def _each_channel(images: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """Change each channel of (B, H, W, channels) in the same way, as (B, H, W)."""
    return np.stack([change(images[..., channel]) for channel in range(images.shape[-1])], axis=-1)


@dataclass(frozen=True)
class Disturbance:
    """What changes the pixels of a batch; None where a limit is 0."""

    blur: Pixels | None = None
    """(B, 1, 1): the share of the blurred image."""
    background: Pixels | None = None
    """(B, H, W): what is added, 0 or more."""
    density: Pixels | None = None
    """(B, 1, 1): the largest possible background."""
    noise: Pixels | None = None
    """(B, H, W): the new value of each pixel, or NaN for a pixel that stays."""
    outline: Pixels | None = None
    """(B, 1, 1): the share of the outline."""
    lines: Pixels | None = None
    """(B, H, W): the brightness of the lines."""
    invert: Pixels | None = None
    """(B, H, W): 1 for a pixel that is inverted, else 0."""

    def of(self, rows: NDArray[np.intp]) -> "Disturbance":
        """Return the disturbance of some images of the batch."""
        return Disturbance(
            **{name: None if values is None else values[rows] for name, values in vars(self).items()}
        )


def draw_disturbance(
    limits: Distortion, count: int, shape: tuple[int, ...], random: np.random.Generator
) -> Disturbance:
    """Draw how the pixels of ``count`` images change; a limit of 0 draws no random number.

    Args:
        limits: the limits of each change.
        count: number of images.
        shape: height and width of the images.
        random: the random numbers.
    """
    whole = (count, *shape)
    blur = background = density = noise = outline = lines = invert = None
    allowed = _allowed(limits, count, random)
    if limits.blur:
        blur = _amounts(limits.blur, count, random) * allowed["blur"]
    if limits.background:
        density = _amounts(limits.background, count, random) * allowed["background"]
        background = density * _fields(count, shape, random)
    if limits.noise:
        share = _amounts(limits.noise, count, random) * allowed["noise"]
        # half of the new values are black or white
        values = np.clip(random.random(whole, np.float32) * 2 - np.float32(0.5), 0, 1)
        noise = np.where(random.random(whole, np.float32) < share, values, np.float32(np.nan))
    if limits.outline:
        outline = _amounts(limits.outline, count, random) * allowed["outline"]
    if limits.lines:
        segments = np.ceil(_amounts(limits.lines, count, random) * allowed["lines"])
        lines = _bent_lines(segments[:, 0, 0].astype(int), shape, random)
    if limits.invert:
        breadth = _amounts(limits.invert, count, random) * allowed["invert"]
        invert = _bands(breadth, shape, random)
    return Disturbance(blur, background, density, noise, outline, lines, invert)


def disturb(images: NDArray[np.float32], drawn: Disturbance) -> NDArray[np.float32]:
    """Take the outline of each image, add lines, invert bands, blur, add a background, replace single pixels.

    All channels of an image are changed alike.

    Args:
        images: float32 (B, H, W, channels) in 0 to 1.
        drawn: from :func:`draw_disturbance`.

    Returns:
        float32 (B, H, W, channels) in 0 to 1; without any change, ``images`` itself.
    """
    if all(values is None for values in vars(drawn).values()):
        return images
    return _each_channel(images, lambda pixels: _disturb(pixels, drawn))


def _disturb(pixels: Pixels, drawn: Disturbance) -> Pixels:
    """Change one channel, (B, H, W)."""
    if drawn.outline is not None:
        pixels = _mixed(pixels, drawn.outline, _outlined)
    if drawn.lines is not None:
        pixels = np.minimum(pixels + drawn.lines, 1)
    if drawn.invert is not None:
        pixels = np.abs(drawn.invert - pixels)
    if drawn.blur is not None:
        pixels = _mixed(pixels, drawn.blur, _blurred)
    if drawn.background is not None and drawn.density is not None:
        pixels = (pixels + drawn.background) / (1 + drawn.density)
    if drawn.noise is not None:
        pixels = np.where(np.isnan(drawn.noise), pixels, drawn.noise)
    return pixels


def _mixed(pixels: Pixels, shares: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """Mix each image with its changed form, by shares (B, 1, 1); only images with a share are computed."""
    some = np.flatnonzero(shares)
    mixed = pixels.copy()
    mixed[some] += shares[some] * (change(pixels[some]) - pixels[some])
    return mixed


def _amounts(limit: float, count: int, random: np.random.Generator) -> Pixels:
    """Draw one amount per image, float32 (B, 1, 1): 0 for half of them, else uniform up to the limit."""
    drawn = 2 * random.random((count, 1, 1), np.float32) - 1
    return np.maximum(drawn, 0) * np.float32(limit)


def _allowed(limits: Distortion, count: int, random: np.random.Generator) -> Mapping[str, Pixels]:
    """Choose the changes that each image may get: 1 or 0 by name, float32 (B, 1, 1)."""
    used = [name for name in _CHANGES if getattr(limits, name)]
    allowed = np.ones((len(used), count, 1, 1), np.float32)
    if 0 < limits.combined < len(used):
        order = random.random(allowed.shape, np.float32).argsort(axis=0)
        allowed[order >= limits.combined] = 0
    allowed[:, : _undistorted(limits, count)] = 0
    return dict(zip(used, allowed, strict=True))


def _undistorted(limits: Distortion, count: int) -> int:
    """Return how many images of a batch stay as they are: the first ones, because batches are shuffled."""
    return round(limits.undistorted * count)


def _bent_lines(segments: NDArray[np.intp], shape: tuple[int, ...], random: np.random.Generator) -> Pixels:
    """Return one line of so many segments for each image, float32 (B, H, W) in 0 to 1; half are dashed."""
    count, most = len(segments), int(segments.max(initial=0))
    dashed = random.random(count, np.float32) < 0.5
    at, spread = random.random((2, count), np.float32), random.random((most, count), np.float32)
    width, brightness, step, bend, first = random.random((5, count), np.float32)
    at *= np.array(shape, np.float32)[:, np.newaxis]
    step, width, brightness = 2 + 10 * step, 1 + width, (1 + brightness) / 2
    angles = 2 * np.pi * first + np.pi / 2 * bend * (2 * spread - 1)
    rows, columns = (np.arange(length, dtype=np.float32) for length in shape)
    squares = np.full((count, *shape), np.inf, np.float32)  # squared distance from the line
    for number, angle in enumerate(angles):
        down, right = np.sin(angle), np.cos(angle)
        some = np.flatnonzero((segments > number) & ~(dashed & (number % 2 == 1)))
        height, breadth = rows - at[0, some, np.newaxis], columns - at[1, some, np.newaxis]
        along = _sums(height * down[some, np.newaxis], breadth * right[some, np.newaxis])
        nearest = np.clip(along, 0, step[some, np.newaxis, np.newaxis])
        distance = _sums(height**2, breadth**2) + nearest * (nearest - 2 * along)
        squares[some] = np.minimum(squares[some], distance)
        at += step * np.stack([down, right])
    reach = width[:, np.newaxis, np.newaxis] - np.sqrt(np.maximum(squares, 0))
    return brightness[:, np.newaxis, np.newaxis] * np.clip(reach, 0, 1)


def _sums(rows: Pixels, columns: Pixels) -> Pixels:
    """Add (B, H) and (B, W) to (B, H, W)."""
    return rows[:, :, np.newaxis] + columns[:, np.newaxis, :]


def _bands(breadth: Pixels, shape: tuple[int, ...], random: np.random.Generator) -> Pixels:
    """Return up to two bands for each image, along rows or columns; 1 inside, float32 (B, H, W).

    Args:
        breadth: (B, 1, 1), the largest breadth of a band as a share of the height or width.
        shape: height and width.
        random: the random numbers.
    """
    count = len(breadth)
    upright = random.random((count, 1, 1), np.float32) < 0.5
    rows, columns = ((np.arange(length, dtype=np.float32) + 0.5) / length for length in shape)
    place = np.where(upright, columns, rows[:, np.newaxis])
    inside = np.zeros((count, *shape), bool)
    for _ in range(2):
        centre, share = random.random((2, count, 1, 1), np.float32)
        inside ^= np.abs(place - centre) < breadth * share / 2
    return inside.astype(np.float32)


def _fields(count: int, shape: tuple[int, ...], random: np.random.Generator) -> Pixels:
    """Return random fields, smooth and rough ones, float32 (B, H, W) within 0 to 1."""
    total = np.zeros((count, *shape), np.float32)
    for size in (2, 4, 8, 16):
        coarse = random.random((count, size, size), np.float32) - np.float32(0.5)
        weight = random.random((count, 1, 1), np.float32) ** 2
        rows, columns = (_interpolation(size, length) for length in shape)
        total += weight * (rows @ coarse @ columns.T)
    low, high = (extreme(axis=(1, 2), keepdims=True) for extreme in (total.min, total.max))
    bounds = np.sort(random.random((2, count, 1, 1), np.float32), axis=0)
    return bounds[0] + (bounds[1] - bounds[0]) * (total - low) / (high - low + np.float32(1e-6))


@cache
def _smoothing(length: int) -> Pixels:
    """Return the matrix that makes smooth lines of independent numbers, float32 (length, coarse length).

    Each point is a sum with Gaussian weights. A sum of numbers with the variance 1 has the variance 1.
    """
    centres = np.arange(-_SMOOTHNESS, length + _SMOOTHNESS, _SMOOTHNESS / 2)
    distance = (np.arange(length)[:, np.newaxis] - centres) / _SMOOTHNESS
    weights = np.exp(-(distance**2) / 2)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


@cache
def _interpolation(size: int, length: int) -> Pixels:
    """Return the matrix that stretches a line of points linearly, float32 (length, size)."""
    at = np.linspace(0, size - 1, length)
    distance = np.abs(at[:, np.newaxis] - np.arange(size))
    return np.maximum(1 - distance, 0).astype(np.float32)


def _blurred(pixels: Pixels) -> Pixels:
    """Convolve (B, H, W) with a binomial kernel of 5x5, whose standard deviation is 1 pixel."""
    for axis in (1, 2):
        padded = np.pad(pixels, [(2, 2) if axis == each else (0, 0) for each in range(3)])
        length = pixels.shape[axis]
        parts = [padded.take(range(start, start + length), axis) for start in range(5)]
        pixels = (parts[0] + parts[4] + 4 * (parts[1] + parts[3]) + 6 * parts[2]) / np.float32(16)
    return pixels


def _outlined(pixels: Pixels) -> Pixels:
    """Return what a dilation by one pixel adds to (B, H, W)."""
    return maximum_filter(pixels, (1, 3, 3), mode="nearest") - pixels
