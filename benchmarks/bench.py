"""One run of the benchmark: contestants in turns, each in a process of its own; every repetition is kept."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import measure, peers
from benchmarks.measure import Measured
from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.system.terminal import console

ROOT = Path(__file__).parent.parent
FIRST_SEED = 1998
_PREFIXES = ("MLFLOW_", "PREFECT_", "DVC_", "LENET5_", "KERAS_", "TF_", "ONEDNN_", "XLA_", "OMP_")


@dataclass(frozen=True)
class Contestant:
    """A program of ``benchmarks/contestants`` and its arguments."""

    name: str
    program: str
    words: tuple[str, ...] = ()
    peer: bool = False
    """It runs in the peers' environment."""


@dataclass
class Bench:
    """The arguments of a part, and its repetitions."""

    paths: Paths
    seeds: int
    times: Sequence[int] = (1,)
    """For the part `large`: so many times the data."""
    runs: int = 200
    """For the part `soak`: flow runs."""
    quick: bool = False
    repetitions: list[dict[str, Any]] = field(default_factory=list)

    def take_turns(self, contestants: Sequence[Contestant]) -> dict[str, list[Measured]]:
        """Run every contestant once in each round, A B C A B C, so that a slow minute slows all of them down.

        All contestants of a round get the same seed.
        """
        measured: dict[str, list[Measured]] = {contestant.name: [] for contestant in contestants}
        # installs the peers, where they are missing, before the first contestant runs
        interpreters = [
            str(peers.python(self.paths)) if each.peer else sys.executable for each in contestants
        ]
        for number in range(self.seeds):
            for contestant, interpreter in zip(contestants, interpreters, strict=True):
                program = f"benchmarks.contestants.{contestant.program}"
                words = (*contestant.words, "--seed", str(FIRST_SEED + number))
                done = self.command(contestant.name, (interpreter, "-m", program, *words))
                measured[contestant.name].append(done)
        return measured

    def command(
        self,
        name: str,
        command: Sequence[str],
        *,
        code: Path = ROOT,
        cwd: Path | None = None,
        watch_memory: bool = False,
    ) -> Measured:
        """Run one command with the product's code of a checkout, print what it took, and keep it."""
        done = measure.whole_process(
            command, cwd=cwd or code, environment=environment(code), watch_memory=watch_memory
        )
        # results are published: file names without the folders of this machine
        words = [Path(word).name if Path(word).is_absolute() else word for word in command]
        self.repetitions.append({"name": name, "command": words, **done.as_row()})
        others = f", others {done.others_cores:.2f} cores" if done.others_cores > 0.1 else ""
        console.print(f"  {name}: {done.wall_s:.2f} s, {done.cpu_s:.2f} CPU-s{others}", style="dim")
        return done

    def others_cores(self) -> float:
        """CPU that other processes used while this part's processes ran, in cores."""
        seconds = sum(each["wall_s"] for each in self.repetitions)
        used = sum(each["wall_s"] * each["others_cores"] for each in self.repetitions)
        return used / seconds if seconds else 0.0


def environment(root: Path) -> dict[str, str]:
    """The shell's environment without settings of the product or of an engine; it runs the code in `root`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)}
    kept = {name: value for name, value in kept.items() if name not in engine.ENGINE_FLAGS}
    return kept | {
        "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
