"""Export a data card as Croissant 1.0 (JSON-LD), which dataset hubs and search engines read.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. The mapping is written by hand, because
the Python library of Croissant brings many packages and is not needed to write one file. The text holds no
clock: equal data sets give equal bytes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet5.core import files
from lenet5.core.errors import DataError
from lenet5.core.text import mask_urls
from lenet5.tracking.data_set import DataSet, spdx

Json = dict[str, Any]

_CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of the specification, appendix 1."""


def export(root: Path, raw: Path, data: DataSet) -> str:
    """Return the data set as Croissant: what it is, its licence, and its files with their SHA-256.

    Args:
        root: the folder that the addresses of files are relative to.
        raw: the folder of the raw data, below ``root``.
        data: the data set.

    Raises:
        DataError: a file of the raw data is missing.
    """
    card = data.card
    document: Json = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": card.name,
        "description": _description(data),
        "license": _licence(card.licence),
        "keywords": [card.subject, "image classification"],
    }
    if card.url:
        document["url"] = mask_urls(card.url, replacement="")
    if card.creators:
        document["creator"] = [{"@type": "sc:Person", "name": name} for name in card.creators]
    if card.citation:
        document["citeAs"] = card.citation
    sources = {mask_urls(rows.source, replacement=""): None for rows in data.manifest.origins}
    if sources:
        document["isBasedOn"] = list(sources)
    document["version"] = f"0.0.0+{data.manifest.digest[:12]}"
    document["distribution"] = [
        _file(root, raw / split / f"{part}.npy", f"{split}: {part}, {_array(data, split, part)}")
        for split in data.manifest.splits
        for part in ("images", "labels")
    ]
    document["recordSet"] = [_classes(data), _splits(data)]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _description(data: DataSet) -> str:
    sentences = [data.card.description]
    if data.card.intended_use:
        sentences.append(f"Intended use: {data.card.intended_use}.")
    return " ".join([*sentences, *data.card.limits])


def _licence(name: str | None) -> str:
    """Return the address of an SPDX licence, and any other text as it is."""
    if name is None:
        return "not stated"
    known = spdx(name)
    return name if known is None or " " in known else f"https://spdx.org/licenses/{known}.html"


def _array(data: DataSet, split: str, part: str) -> str:
    record = data.manifest.splits[split]
    array = record.images if part == "images" else record.labels
    return f"NumPy array, dtype {array.dtype}, shape {array.shape}"


def _file(root: Path, path: Path, description: str) -> Json:
    name = path.relative_to(root).as_posix()
    if not path.exists():
        raise DataError(f"{name} is missing.", expected="the raw data", fix="`dvc repro ingest` writes it")
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{files.regular(path).stat().st_size} B",
        "encodingFormat": "application/x-npy",
        "sha256": files.sha256(path),
    }


def _classes(data: DataSet) -> Json:
    return _table(
        "classes",
        "sc:Enumeration",
        {"label": "sc:Integer", "name": "sc:Text"},
        [(label, name) for label, name in enumerate(data.classes)],
    )


def _splits(data: DataSet) -> Json:
    rows = [(name, record.images.shape[0]) for name, record in data.manifest.splits.items()]
    return _table("splits", "cr:Split", {"name": "sc:Text", "images": "sc:Integer"}, rows)


def _table(name: str, kind: str, columns: dict[str, str], rows: Sequence[tuple[int | str, ...]]) -> Json:
    """Return a record set whose rows are in the document. The first column is the key."""
    ids = [f"{name}/{column}" for column in columns]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": ids[0]},
        "field": [
            {"@type": "cr:Field", "@id": id_, "name": column, "dataType": data_type}
            for id_, (column, data_type) in zip(ids, columns.items(), strict=True)
        ],
        "data": [dict(zip(ids, row, strict=True)) for row in rows],
    }
