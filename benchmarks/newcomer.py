"""Log a newcomer's first session: ``python -m benchmarks.newcomer``.

In a fresh clone of the commit that is checked out, with nothing but Python, git and make, the commands of
docs/first-session.md run one after the other. The page gets each command, its seconds and a part of what it
prints. The packages are downloaded, unless ``UV_CACHE_DIR`` names a folder that has them.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks import command
from benchmarks.bench import ROOT
from benchmarks.checkout import Checkout
from benchmarks.readme import replaced
from lenet5.core import dataset, files
from lenet5.core.paths import Paths
from lenet5.system.terminal import console

PAGE = ROOT / "docs/first-session.md"
DIGIT = "../digit.png"  # a file in the clone would make its versions those of a changed checkout
_PASSED_ON = ("UV_CACHE_DIR", "UV_FIND_LINKS", "PIP_FIND_LINKS", "PIP_CERT", "SSL_CERT_FILE")
"""Variables that say where packages come from."""


@dataclass(frozen=True)
class Step:
    """A command, and which lines of its output the page shows."""

    line: str
    last: int = 0
    first: int = 0


SESSION = {
    "champion": (
        Step("make pipeline", 6),
        Step("source .venv/bin/activate"),
        Step(f"lenet5 predict {DIGIT}", 6),
    ),
    "change": (Step("dvc exp run $(lenet5 recipe accuracy)", 2), Step("dvc metrics diff", 8)),
    "promote": (Step("lenet5 promote", 12), Step("lenet5 diff 1 2", first=8)),
    "rollback": (Step("lenet5 rollback --reason 'only an exercise'", 2), Step("lenet5 versions", 6)),
    "again": (Step("git checkout --quiet params.yaml dvc.lock"), Step("lenet5 run", 7)),
}
"""The commands, by the name of their place in the page."""


def main() -> None:
    """Run the session, and write it to the page."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        root = Path(folder) / "lenet5"
        clone = Checkout(root, variables(root))
        picture = dataset.load(Paths(ROOT).raw).splits["test"].images[0]
        Image.fromarray(picture).save(root / DIGIT)
        for name, steps in SESSION.items():
            block = "\n".join(log for step in steps for log in run(step, clone))
            console.print(block, markup=False, soft_wrap=True)
            text = replaced(text, name, f"```console\n{block}\n```", where=PAGE)
        minutes = (time.perf_counter() - begin) / 60
    total = f"The whole session took {minutes:.1f} minutes on two cores."
    files.write_text(PAGE, replaced(text, "minutes", total, where=PAGE))


def variables(root: Path) -> dict[str, str]:
    """The environment of a person who has Python, git and make, and a clone at ``root``."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = f"{root / '.venv/bin'}{os.pathsep}{os.defpath}{os.pathsep}/usr/local/bin"
    return passed_on | {"PATH": path, "HOME": str(root.parent), "COLUMNS": "120", "LANG": "C.UTF-8"}


def run(step: Step, clone: Checkout) -> list[str]:
    """Run one command in a shell, and return it with its seconds and a part of its output.

    Raises:
        RuntimeError: the command failed.
    """
    begin = time.perf_counter()
    output = clone.run(step.line)
    seconds = time.perf_counter() - begin
    lines = [line.rstrip() for line in output.splitlines()]
    shown = [*lines[: step.first], "…", *lines[max(step.first, len(lines) - step.last) :]]
    if step.first + step.last >= len(lines):
        shown = lines
    return [f"$ {step.line}" + f"  # {seconds:.0f} s" * (seconds >= 1), *shown]


if __name__ == "__main__":
    command.run(main)
