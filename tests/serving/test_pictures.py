"""Files that are no good pictures: each is one clear error, and none costs memory or waits for ever."""

import contextlib
import io
import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from lenet5.core.dataset import DIGITS
from lenet5.core.errors import DataError
from lenet5.serving import predictor
from tests.conftest import Arrays

Pixels = NDArray[np.uint8]
ROWS = 500


def read(file: Path) -> Pixels:
    return predictor.read(file, DIGITS, (28, 28))


@pytest.fixture(scope="module")
def encoded(digits: Arrays) -> dict[str, bytes]:
    """A digit as a PNG file, as a PNG file with a palette, and as a JPEG file with EXIF data."""
    picture = Image.fromarray(digits["test_images"][0]).resize((60, 60))
    exif = Image.Exif()
    exif[274] = 6  # orientation
    contents = {}
    for name, image, options in (
        ("grey.png", picture, {"format": "PNG"}),
        ("palette.png", picture.convert("RGB").quantize(16), {"format": "PNG"}),
        ("photo.jpg", picture.convert("RGB"), {"format": "JPEG", "exif": exif}),
    ):
        file = io.BytesIO()
        image.save(file, **options)
        contents[name] = file.getvalue()
    return contents


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Change some bytes, cut the end off, or repeat a part."""
    data = bytearray(content)
    for _ in range(random.integers(1, 6)):
        match random.integers(4):
            case 0:
                data[random.integers(len(data))] = random.integers(256)
            case 1:
                data[random.integers(len(data))] ^= 1 << random.integers(8)
            case 2:
                del data[random.integers(len(data) // 2, len(data)) :]
            case _:
                start = random.integers(len(data))
                data[start:start] = data[start : start + 40]
    return bytes(data)


@pytest.mark.parametrize("name", ["grey.png", "palette.png", "photo.jpg"])
def test_a_mutated_picture_is_read_or_is_an_error(
    tmp_path: Path, encoded: dict[str, bytes], name: str
) -> None:
    random, readable = np.random.default_rng(0), 0
    for _ in range(300):
        file = tmp_path / name
        file.write_bytes(mutated(encoded[name], random))
        with contextlib.suppress(DataError):  # any other exception fails the test
            pixels = read(file)
            assert pixels.shape == (28, 28)
            assert pixels.dtype == np.uint8
            readable += 1
    assert 0 < readable < 270


def png(width: int, height: int, bits: int) -> bytes:
    """A grey PNG of zeros that ends after ``ROWS`` rows. Its header has the whole size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = bytes(1 + width * bits // 8)
    body = b"".join(compressor.compress(row) for _ in range(min(height, ROWS))) + compressor.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("side", "bits"), [(13_000, 16), (10_000, 8), (4_001, 8)])
def test_a_small_file_with_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, bits: int
) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(png(side, side, bits))
    assert file.stat().st_size < 1_000_000
    before = psutil.Process().memory_info().rss
    with pytest.raises(DataError, match="at most 16,000,000 pixels") as refused:
        read(file)
    assert re.search("found: .* pixels", str(refused.value))
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_the_largest_picture_is_read(tmp_path: Path) -> None:
    pixels = np.zeros((4000, 4000), np.uint8)
    pixels[1000:3000, 1900:2100] = 255
    file = tmp_path / "one.png"
    Image.fromarray(pixels).save(file)
    assert read(file).max() == 255


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "WEBP", "PPM", "EPS"])
def test_other_formats_are_refused(tmp_path: Path, form: str) -> None:
    file = tmp_path / "digit.png"
    Image.new("RGB", (28, 28)).save(file, format=form)
    with pytest.raises(DataError, match="a PNG or JPEG picture"):
        read(file)


def a_directory(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_loop_of_links(path: Path) -> None:
    path.symlink_to(path.name)


def a_socket(path: Path) -> None:
    os.chdir(path.parent)  # the name of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)


def nothing(path: Path) -> None:
    """Make nothing."""


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [a_directory, a_pipe, a_loop_of_links, a_socket, nothing])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "digit.png"
    make(path)
    with pytest.raises(DataError, match="cannot be read"):
        read(path)
