"""Take other data sets to a champion with two commands: ``python -m benchmarks.your_data``.

Each data set gets a clone of the commit that is checked out, `lenet5 data init` and `lenet5 run`. The table
is written to docs/your-data.md.
"""

import json
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from benchmarks import command, data_sets, report
from benchmarks.bench import ROOT, environment
from benchmarks.readme import replaced
from lenet5.core import files
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.core.results import Evaluation, EvaluationDetails
from lenet5.system.terminal import console

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` has its files."""
HEADER = [
    "data set",
    "images",
    "classes",
    "size",
    "`lenet5 data init …`",
    "seconds",
    "test accuracy",
    "champion",
]


def letters() -> data_sets.Pictures:
    return data_sets.printed(data_sets.LETTERS, 200)


def sources(fashion: Path) -> Mapping[str, tuple[str, Callable[[Path], object]]]:
    """Return the words after ``lenet5 data init`` by data set, and a function that makes the source.

    Paths are relative to the folder that the function gets, in which the commands run.
    """
    return {
        "MNIST, IDX": ("data/mnist --name MNIST", lambda _: None),
        "Fashion-MNIST, IDX": (
            "fashion-mnist --name Fashion-MNIST",
            lambda folder: shutil.copytree(fashion, folder / "fashion-mnist"),
        ),
        "digits of scikit-learn": ("sklearn:digits", lambda _: None),
        "printed digits, PNG folders without splits": (
            "printed-digits",
            lambda folder: data_sets.write_folders(
                data_sets.printed("0123456789", 300), folder / "printed-digits", splits=False
            ),
        ),
        "printed letters, PNG folders": (
            "letters",
            lambda folder: data_sets.write_folders(letters(), folder / "letters"),
        ),
        "printed letters, CSV": (
            "letters-csv",
            lambda folder: data_sets.write_csv(letters(), folder / "letters-csv"),
        ),
        "printed letters, Parquet": (
            "letters-parquet",
            lambda folder: data_sets.write_parquet(letters(), folder / "letters-parquet"),
        ),
        "coloured shapes, npz": (
            "shapes.npz",
            lambda folder: data_sets.write_npz(data_sets.shapes(1000), folder / "shapes.npz"),
        ),
    }


def main(
    fashion: Annotated[Path, typer.Option(help="Folder with the files of Fashion-MNIST.")] = FASHION,
    only: Annotated[str, typer.Option(help="Only data sets whose name contains this; writes nothing.")] = "",
) -> None:
    """Run both commands for every data set, and write the table."""
    if not fashion.is_dir() and (not only or only in "Fashion-MNIST, IDX"):
        raise UsageError(
            "Fashion-MNIST is not there.",
            expected=f"its four files in {fashion}",
            found="no such folder",
            fix="`apt install dataset-fashion-mnist`, or --fashion FOLDER",
        )
    rows = []
    for name, (words, make) in sources(fashion).items():
        if only in name:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(row(name, words, make, Path(folder) / "checkout"))
            console.print(report.markdown(HEADER, rows[-1:]), markup=False, soft_wrap=True)
    if only:
        return
    page = ROOT / "docs/your-data.md"
    table = report.markdown(HEADER, rows)
    files.write_text(page, replaced(page.read_text(encoding="utf-8"), "data-sets", table, where=page))


def row(name: str, words: str, make: Callable[[Path], object], checkout: Path) -> list[str]:
    """Take one data set to a champion in a fresh clone, and return its row of the table."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    make(checkout)
    variables = environment(checkout) | {"HOME": str(checkout.parent)}
    started = time.perf_counter()
    for line in (f"lenet5 data init {words} --yes", "lenet5 run"):
        done = subprocess.run(
            shlex.split(line), cwd=checkout, env=variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {line} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    seconds = time.perf_counter() - started
    listed = subprocess.run(
        ["lenet5", "versions", "--json"],
        cwd=checkout,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    [version] = json.loads(listed.stdout)
    paths = Paths(checkout)
    evaluation, params = Evaluation.read(paths.evaluation), YAML(typ="safe").load(paths.params)
    image = params["ingest"]["image"]
    size = f"{image['size']}x{image['size']}" + (" RGB" if image["channels"] == 3 else "")
    images = sum(split.images for split in EvaluationDetails.read(paths.evaluation_details).splits.values())
    champion = f"version {version['version']} of `{params['register']['model_name']}`"
    return [
        name,
        f"{images:,}",
        str(len(params["ingest"]["classes"])),
        size,
        f"`{words}`",
        f"{seconds:.0f}",
        f"{evaluation.accuracy:.4f}",
        champion if "champion" in version["aliases"] else "none",
    ]


if __name__ == "__main__":
    command.run(main)
