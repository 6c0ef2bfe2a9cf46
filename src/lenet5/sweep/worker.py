"""Run trials of a study until it is complete.

``python -m lenet5.sweep.worker`` reads a ``TrialWorkerSpec`` as JSON from standard input. Any number of
workers can run, on any number of machines. They share only the database of the study.
"""

import logging
import sys
import time
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lenet5.core import dataset, storage
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages import params
from lenet5.stages.params import Params
from lenet5.sweep import study
from lenet5.sweep.space import SECTION
from lenet5.sweep.worker_spec import TrialWorkerSpec
from lenet5.system import logs, parent_watch, settings
from lenet5.system.terminal import console, print_error
from lenet5.tracking import sweeps

POLL_SECONDS = 1.0
"""Time between two queries for trials of other workers."""


def search(paths: Paths, base: Params, spec: TrialWorkerSpec) -> None:
    """Run trials until the study is complete.

    When all remaining trials run elsewhere, wait for their end and repeat those whose worker has died.

    Args:
        paths: a checkout with processed data. Only the train and validation images are read.
        base: the parameters; trials replace the searched ones.
        spec: the study and the number of this worker.

    Raises:
        UsageError: the data, parameters or code in this checkout are not those of the study.
        DataError: the processed data is missing or damaged.
        Unavailable: the database of the study does not answer.
    """
    processed = dataset.load(paths.processed)
    own_name = study.name(paths, spec.sweep, base, processed.manifest.digest)
    if own_name != spec.study:
        raise UsageError(
            "This checkout would train other models than the sweep.",
            expected=f"study {spec.study[:12]}, with the data, parameters and code of its start",
            found=f"study {own_name[:12]}",
            fix="give both checkouts the same params.yaml, dvc.lock and src/, and do not edit them meanwhile",
        )
    with quiet_libraries(), engine.lean_keras():
        from lenet5.model import backend
        from lenet5.sweep import trial

    # each trial builds its own graph, so TensorFlow warns "5 out of the last 5 calls triggered retracing"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    backend.configure(base.train.threads)
    optuna_study = study.join(paths, spec.study, spec.sweep, spec.worker)

    def objective(optuna_trial: optuna.Trial) -> float:
        drawn = base.changed(spec.sweep.draw(optuna_trial, base)).train
        train, validation = processed.splits["train"], processed.splits["validation"]
        with sweeps.trial_run(paths, spec.study, spec.run, optuna_trial.number, drawn.flat()) as run:
            try:
                score = trial.score(optuna_trial, train, validation, drawn, run.epoch)
            except optuna.TrialPruned:
                run.end(sweeps.DIVERGED if trial.DIVERGED in optuna_trial.user_attrs else sweeps.PRUNED)
                raise
            run.end(sweeps.COMPLETE, score)
        return score

    def print_trial(optuna_study: optuna.Study, ended: FrozenTrial) -> None:
        count = len(study.trials(optuna_study, *study.DONE))
        console.print(f"{count:>3}/{spec.sweep.trials}  {_line(ended, spec)}", markup=False, soft_wrap=True)

    while (ended := len(study.trials(optuna_study, *study.DONE))) < spec.sweep.trials:
        if ended + len(study.trials(optuna_study, TrialState.RUNNING)) < spec.sweep.trials:
            optuna_study.optimize(objective, n_trials=1, callbacks=[print_trial])
        else:
            time.sleep(POLL_SECONDS)
            study.requeue_stale(optuna_study)


def _line(trial: FrozenTrial, spec: TrialWorkerSpec) -> str:
    values = ", ".join(
        f"{name.removeprefix(SECTION)} {value}" for name, value in spec.sweep.values(trial.params).items()
    )
    return f"trial {trial.number:<3} {_state(trial):<26} {values}"


def _state(trial: FrozenTrial) -> str:
    if trial.state is TrialState.COMPLETE:
        return f"hold-out accuracy {trial.value:.4f}"
    if trial.state is TrialState.PRUNED:
        return f"ended after epoch {trial.last_step}" if trial.last_step else "diverged"
    return trial.state.name.lower()


def main() -> Any:
    """Run a worker with the spec on standard input; return the exit code."""
    parent_watch.exit_with_parent()
    try:
        paths = Paths.find()
        with storage.failures_named(paths.root):
            settings.apply(paths)
            search(paths, params.load(paths.params), TrialWorkerSpec.model_validate_json(sys.stdin.read()))
    except Lenet5Error as error:
        print_error(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    logs.configure()
    sys.exit(main())
