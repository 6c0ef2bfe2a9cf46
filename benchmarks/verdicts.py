"""Show what the gate says of other recipes and of other data: ``python -m benchmarks.verdicts``.

A clone of the commit that is checked out makes a champion with the default parameters. Then it makes
candidates: the recipes `accuracy` and `mlp`, and a training with transposed images in both splits. The
messages of the gate are written to docs/promotion.md, as a terminal shows them.
"""

import gzip
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import command
from benchmarks.bench import ROOT, environment
from benchmarks.checkout import Checkout
from benchmarks.readme import replaced
from lenet5.core import files
from lenet5.registry.model_versions import CHAMPION
from lenet5.stages.ingest import idx
from lenet5.stages.ingest.mnist_files import MNIST_FILES
from lenet5.system.terminal import console

PAGE = ROOT / "docs/promotion.md"
RECIPES = ("accuracy", "mlp")
HELD_BACK = 3
"""Exit code of `lenet5 promote` for a version that the gate does not accept."""


def main() -> None:
    """Make the champion and the candidates, and write what the gate says."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "checkout"
        checkout = Checkout(root, environment(root) | {"HOME": folder, "COLUMNS": "160"})
        blocks = shown(checkout)
    text = PAGE.read_text(encoding="utf-8")
    for name, block in blocks.items():
        console.print(block, markup=False, soft_wrap=True)
        text = replaced(text, name, f"```console\n{block}\n```", where=PAGE)
    files.write_text(PAGE, text)


def shown(checkout: Checkout) -> dict[str, str]:
    """Return the commands and messages by the name of their place in the page."""
    checkout.run("dvc repro && lenet5 promote")
    blocks = {}
    for recipe in RECIPES:
        train = f"dvc exp run $(lenet5 recipe {recipe})"
        checkout.run(train)
        said = checkout.run("lenet5 promote", expected=(0, HELD_BACK))
        blocks[f"verdict-{recipe}"] = _dialogue(train, "lenet5 promote", said)
        if f"is {CHAMPION} now" in said:  # each candidate is compared with the default
            checkout.run("lenet5 rollback --reason 'the next candidate'")
    checkout.run("git checkout --quiet params.yaml dvc.lock")
    transpose(checkout.root / "data/mnist")
    accept = "lenet5 pin && lenet5 ingest && lenet5 validate --update-reference && dvc repro"
    checkout.run(accept)
    blocks["verdict-transposed"] = _dialogue(
        accept, "lenet5 promote", checkout.run("lenet5 promote", expected=(HELD_BACK,))
    )
    return blocks


def transpose(folder: Path) -> None:
    """Swap rows and columns of every image in a folder with the files of MNIST."""
    for file in MNIST_FILES:
        if file.key.endswith("images"):
            path = folder / f"{file.file}.gz"
            images = idx.decode(gzip.decompress(path.read_bytes()), file.file, file.dimensions)
            swapped = np.ascontiguousarray(images.transpose(0, 2, 1))
            path.write_bytes(gzip.compress(idx.encode(swapped), compresslevel=1, mtime=0))


def _dialogue(first: str, second: str, message: str) -> str:
    return f"$ {first}\n…\n$ {second}\n{message}"


if __name__ == "__main__":
    command.run(main)
