from lenet5 import settings
from lenet5.params import Train
from lenet5.paths import Paths
from lenet5.terminal import quiet_libraries


def run(paths: Paths, params: Train) -> None:
    """``data/processed`` → ``models/lenet5.keras``, its lineage and history; epochs reach MLflow as they end.

    A training that was killed goes on after its last epoch, on this machine or on another one that has the
    same ``LENET5_CHECKPOINTS``, and ends with the same bytes. One with several workers is several processes.

    Raises:
        DataError: the processed data is missing or damaged.
        TrainingError: the loss or a weight is not finite, or workers differ; nothing is saved then.
        Unavailable: a worker died or did not come; nothing is saved, and the next training goes on.
        UsageError: the device at hand cannot train in ``params.precision``, or not with ``params.workers``.
    """
    if params.workers > 1:
        from lenet5.train import launcher

        launcher.run(paths, params)
    else:
        with quiet_libraries(), settings.lean_keras(for_training=True):
            from lenet5.train import member

        member.run(paths, params)
