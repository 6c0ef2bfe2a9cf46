"""A clone of the commit that is checked out, in which the commands of a page run."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bench import ROOT


class Checkout:
    """A fresh clone whose git has an identity, because `dvc exp run` commits."""

    def __init__(self, root: Path, variables: Mapping[str, str]) -> None:
        """Clone.

        Args:
            root: the folder to make.
            variables: the environment of the commands.
        """
        self.root = root
        self._variables = variables
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        for key, value in (("user.name", "Benchmark"), ("user.email", "benchmark@example.invalid")):
            subprocess.run(["git", "config", key, value], cwd=root, check=True)

    def run(self, line: str, *, expected: Sequence[int] = (0,)) -> str:
        """Run a line of a shell, and return what a terminal shows.

        Raises:
            RuntimeError: the exit code is not one of those expected.
        """
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.root,
            env=self._variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode not in expected:
            raise RuntimeError(f"{line} ended with {done.returncode}\n{done.stdout}")
        return done.stdout.strip()
