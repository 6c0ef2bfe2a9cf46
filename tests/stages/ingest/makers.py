"""Write the same images and labels in each format that ``ingest`` reads."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from lenet5.stages.ingest import idx

Arrays = Mapping[str, NDArray[Any]]
"""``train_images``, ``train_labels``, ``test_images``, ``test_labels``; labels are whole numbers."""
Make = Callable[[Path, Arrays], None]


def splits(arrays: Arrays) -> list[str]:
    return [split for split in ("train", "test") if f"{split}_images" in arrays]


def idx_files(folder: Path, arrays: Arrays, names: Callable[[str, str], str] | None = None) -> None:
    def usual(split: str, role: str) -> str:
        return f"{'t10k' if split == 'test' else split}-{role}-idx{3 if role == 'images' else 1}-ubyte"

    for key, array in arrays.items():
        split, _, role = key.partition("_")
        path = folder / (names or usual)(split, role)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = idx.encode(array)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def npz(folder: Path, arrays: Arrays, names: Callable[[str, str], str] | None = None, **more: Any) -> None:
    def keras(split: str, role: str) -> str:
        return f"{'x' if role == 'images' else 'y'}_{split}"

    folder.mkdir(parents=True, exist_ok=True)
    members: dict[str, Any] = {(names or keras)(*key.split("_")): array for key, array in arrays.items()}
    np.savez(folder / "data.npz", **members, **more)


def png_folder(folder: Path, arrays: Arrays, classes: Sequence[str] | None = None) -> None:
    """``split/class/number.png``, or ``class/number.png`` without a test split; numbers without zeros."""
    for split in splits(arrays):
        labels = arrays[f"{split}_labels"]
        for number, image in enumerate(arrays[f"{split}_images"]):
            name = classes[labels[number]] if classes else str(labels[number])
            place = folder / split / name if len(splits(arrays)) > 1 else folder / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{number}.png")


def manifest(folder: Path, arrays: Arrays) -> None:
    """All pictures in one folder, and a table that lists them."""
    (folder / "pictures").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "split", "label"])
        for split in splits(arrays):
            for number, image in enumerate(arrays[f"{split}_images"]):
                name = f"pictures/{split}-{number}.png"
                Image.fromarray(image).save(folder / name)
                table.writerow([name, split, arrays[f"{split}_labels"][number]])


def _rows(arrays: Arrays, split: str) -> NDArray[Any]:
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    return np.column_stack([labels.astype(int), images.reshape(len(images), -1).astype(int)])


def kaggle(folder: Path, arrays: Arrays) -> None:
    """``label,pixel0,…``"""
    folder.mkdir(parents=True)
    for split in splits(arrays):
        rows = _rows(arrays, split)
        header = ",".join(["label", *(f"pixel{number}" for number in range(rows.shape[1] - 1))])
        np.savetxt(folder / f"mnist_{split}.csv", rows, "%d", ",", header=header, comments="")


def headless(folder: Path, arrays: Arrays) -> None:
    """Without a header, compressed."""
    folder.mkdir(parents=True)
    for split in splits(arrays):
        np.savetxt(folder / f"mnist_{split}.csv.gz", _rows(arrays, split), "%d", ",")


def tsv(folder: Path, arrays: Arrays) -> None:
    """The class is the last column."""
    folder.mkdir(parents=True)
    for split in splits(arrays):
        rows = np.roll(_rows(arrays, split), -1, axis=1)
        header = "\t".join([*(f"p{number}" for number in range(rows.shape[1] - 1)), "Class"])
        np.savetxt(folder / f"{split}.tsv", rows, "%d", "\t", header=header, comments="")


def arff(folder: Path, arrays: Arrays) -> None:
    """As OpenML writes it."""
    folder.mkdir(parents=True)
    for split in splits(arrays):
        rows = np.roll(_rows(arrays, split), -1, axis=1)
        lines = ["% MNIST", "@RELATION mnist_784"]
        lines += [f"@ATTRIBUTE pixel{number} real" for number in range(1, rows.shape[1])]
        lines += [f"@ATTRIBUTE class {{{','.join(map(str, np.unique(rows[:, -1])))}}}", "@DATA"]
        lines += [",".join(map(str, row)) for row in rows]
        (folder / f"{split}.arff").write_text("\n".join(lines))


def parquet_columns(folder: Path, arrays: Arrays) -> None:
    folder.mkdir(parents=True)
    for split in splits(arrays):
        rows = _rows(arrays, split)
        names = ["label", *(f"{number // 28 + 1}x{number % 28 + 1}" for number in range(rows.shape[1] - 1))]
        parquet.write_table(pa.table(list(rows.T), names=names), folder / f"{split}.parquet")


def parquet_lists(folder: Path, arrays: Arrays) -> None:
    folder.mkdir(parents=True)
    for split in splits(arrays):
        table = pa.table(
            {
                "pixels": arrays[f"{split}_images"].tolist(),
                "target": arrays[f"{split}_labels"].astype(int).tolist(),
            }
        )
        parquet.write_table(table, folder / f"{split}.parquet")


def png(image: NDArray[Any], format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format)
    return file.getvalue()


def hugging_face(folder: Path, arrays: Arrays, classes: Sequence[str] = (), pieces: int = 2) -> None:
    """``data/train-00000-of-00002.parquet``, …: encoded pictures, and class names in the metadata."""
    (folder / "data").mkdir(parents=True)
    names = list(classes or map(str, range(10)))
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    for split in splits(arrays):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        for piece, rows in enumerate(np.array_split(np.arange(len(images)), pieces)):
            pictures = [{"bytes": png(images[row]), "path": None} for row in rows]
            table = pa.table({"image": pictures, "label": labels[rows].astype(np.int64)})
            metadata = {"huggingface": json.dumps({"info": {"features": features}})}
            path = folder / "data" / f"{split}-{piece:05}-of-{pieces:05}.parquet"
            parquet.write_table(table.replace_schema_metadata(metadata), path)


MAKERS: dict[str, Make] = {
    "idx": idx_files,
    "npz": npz,
    "png folder": png_folder,
    "table of pictures": manifest,
    "csv of Kaggle": kaggle,
    "csv without a header": headless,
    "tsv": tsv,
    "arff": arff,
    "parquet, a column a pixel": parquet_columns,
    "parquet, lists": parquet_lists,
    "parquet of Hugging Face": hugging_face,
}
