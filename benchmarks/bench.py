"""One run of the benchmark: contestants in turn, each a process of its own, all of them kept."""

import os
import sys
from collections.abc import Mapping, Sequence
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
_OURS = ("MLFLOW_", "PREFECT_", "DVC_", "LENET5_", "KERAS_", "TF_", "ONEDNN_", "XLA_", "OMP_", "OPENBLAS_")


@dataclass(frozen=True)
class Contestant:
    """A program of ``benchmarks/contestants`` and what it is called with."""

    name: str
    program: str
    words: tuple[str, ...] = ()
    peer: bool = False
    """It runs in the peers' environment."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Bench:
    """What a part is given: where, how often, and how to run something."""

    paths: Paths
    seeds: int
    times: Sequence[int] = (1,)
    """How many times the data, for the part `large`."""
    quick: bool = False
    repetitions: list[dict[str, Any]] = field(default_factory=list)

    def take_turns(
        self, contestants: Sequence[Contestant], *, rounds: int | None = None, watch_memory: bool = False
    ) -> dict[str, list[Measured]]:
        """Run every contestant once a round, A B C A B C, so that what changes meanwhile meets all of them.

        A round has a seed of its own, which every contestant is given.
        """
        found: dict[str, list[Measured]] = {contestant.name: [] for contestant in contestants}
        # whoever has to be installed is, before the first of them runs
        interpreters = {contestant.name: self._interpreter(contestant) for contestant in contestants}
        for number in range(rounds or self.seeds):
            for contestant in contestants:
                seed = FIRST_SEED + number
                program = f"benchmarks.contestants.{contestant.program}"
                words = (*contestant.words, "--seed", str(seed))
                found[contestant.name].append(
                    self.command(
                        contestant.name,
                        (interpreters[contestant.name], "-m", program, *words),
                        environment=environment(ROOT) | dict(contestant.environment),
                        watch_memory=watch_memory,
                    )
                )
        return found

    def command(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path = ROOT,
        watch_memory: bool = False,
    ) -> Measured:
        """Run one command, tell of it, keep it."""
        done = measure.whole_process(command, cwd=cwd, environment=environment, watch_memory=watch_memory)
        # by their names: where things lie on this machine is nobody's business
        said = [Path(word).name if Path(word).is_absolute() else word for word in command]
        self.repetitions.append({"name": name, "command": said, **done.as_row()})
        others = f", others {done.others_cores:.2f} cores" if done.others_cores > 0.1 else ""
        console.print(f"  {name}: {done.wall_s:.2f} s, {done.cpu_s:.2f} CPU-s{others}", style="dim")
        return done

    def others_cores(self) -> float:
        """What others used while this part's processes ran, in cores."""
        watched = [each for each in self.repetitions if "others_cores" in each]
        seconds = sum(each["wall_s"] for each in watched)
        used = sum(each["wall_s"] * each["others_cores"] for each in watched)
        return used / seconds if seconds else 0.0

    def _interpreter(self, contestant: Contestant) -> str:
        return str(peers.python(self.paths)) if contestant.peer else sys.executable


def environment(root: Path) -> dict[str, str]:
    """The shell's environment, without a word about the product or an engine; it runs the code in `root`."""
    said = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    said = {name: value for name, value in said.items() if name not in engine.ENGINE_FLAGS}
    bin_folder = str(Path(sys.executable).parent)
    return said | {
        "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}",
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
