"""Peak memory of a whole training process of one epoch. The stages' own peaks are in the part ``pipeline``.

Resident memory holds shared libraries and mapped files, too; anonymous memory is what must really be there.
Looking costs time, so nothing is timed here.
"""

from benchmarks.bench import Bench, Contestant
from benchmarks.results import Line, Verdict

BASELINE = "notebook"


def run(bench: Bench) -> tuple[list[Line], list[Verdict]]:
    images = ("--images", "6400") if bench.quick else ()
    one = ("train", "--epochs", "1", *images)
    found = bench.take_turns(
        [
            Contestant("product", "product", ("train", "--set", "train.epochs=1", *images)),
            Contestant(BASELINE, "notebook", one),
            Contestant("PyTorch", "torch_lenet", one, peer=True),
            Contestant("JAX", "jax_lenet", one, peer=True),
        ],
        rounds=min(bench.seeds, 3),
        watch_memory=True,
    )
    return [
        Line(
            table=f"peak memory of a training: {what}",
            name=name,
            unit="MB",
            values=tuple(getattr(each, key) for each in runs),
            baselines=(BASELINE,) if name != BASELINE else (),
            headline=True,
        )
        for what, key in (("resident", "tree_rss_mb"), ("anonymous", "tree_anonymous_mb"))
        for name, runs in found.items()
    ], []
