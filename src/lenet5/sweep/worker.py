"""A searcher: a process that draws, trains and tells, until its study has all its trials.

``python -m lenet5.sweep.worker`` reads its order from standard input. There can be any number of them, on
any number of machines; what they share is the study's database.
"""

import logging
import sys
import time
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lenet5.core import dataset
from lenet5.core.errors import Lenet5Error, UsageError
from lenet5.core.paths import Paths
from lenet5.core.quiet import quiet_libraries
from lenet5.model import engine
from lenet5.stages import params
from lenet5.stages.params import Params
from lenet5.sweep import study as studies
from lenet5.sweep.space import SECTION
from lenet5.sweep.worker_spec import TrialWorkerSpec
from lenet5.system import parent_watch, settings
from lenet5.system.terminal import console, print_error
from lenet5.tracking import sweeps

WAIT_SECONDS = 1.0
"""Between two looks at what other searchers do."""


def search(paths: Paths, base: Params, order: TrialWorkerSpec) -> None:
    """Run trials until all are there; then wait for those that others run, to take up what they leave.

    Args:
        paths: of a checkout whose data is processed. Only its train and validation images are read.
        base: the parameters that are not searched.
        order: which study.

    Raises:
        UsageError: data, parameters or code here are others than those of the study.
        DataError: the processed data is missing or damaged.
        Unavailable: the study's database does not answer.
    """
    processed = dataset.load(paths.processed)
    here = studies.name(paths, order.sweep, base, processed.manifest.digest)
    if here != order.study:
        raise UsageError(
            "This searcher would train something else than its study is about.",
            expected=f"study {order.study[:12]}: the data, parameters and code that it began with",
            found=f"those of study {here[:12]}",
            fix="see that params.yaml, dvc.lock and src/ are the same, and that nobody edits them meanwhile",
        )
    with quiet_libraries(), engine.lean_keras(for_training=True):
        from lenet5.model import backend
        from lenet5.sweep import trial as trials

    # "5 out of the last 5 calls triggered retracing": each trial has a graph of its own
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    backend.use_threads(base.train.threads)
    study = studies.join(paths, order.study, order.sweep, order.searcher)

    def objective(trial: optuna.Trial) -> float:
        drawn = base.changed(order.sweep.draw(trial, base)).train
        run = sweeps.trial_run(paths, order.study, order.run, trial.number, drawn.flat())
        with run as told:
            splits = processed.splits
            try:
                score = trials.score(trial, splits["train"], splits["validation"], drawn, told.epoch)
            except optuna.TrialPruned:
                told.end(sweeps.DIVERGED if trials.DIVERGED in trial.user_attrs else sweeps.PRUNED)
                raise
            told.end(sweeps.COMPLETE, score)
        return score

    def tell(study: optuna.Study, trial: FrozenTrial) -> None:
        done = studies.trials(study, *studies.DONE)
        console.print(
            f"{len(done):>3}/{order.sweep.trials}  {_line(trial, order)}", markup=False, soft_wrap=True
        )

    while (done := len(studies.trials(study, *studies.DONE))) < order.sweep.trials:
        if done + len(studies.trials(study, TrialState.RUNNING)) < order.sweep.trials:
            study.optimize(objective, n_trials=1, callbacks=[tell])
        else:
            time.sleep(WAIT_SECONDS)
            studies.drop_dead(study)


def _line(trial: FrozenTrial, order: TrialWorkerSpec) -> str:
    drawn = order.sweep.values(trial.params)
    values = ", ".join(f"{name.removeprefix(SECTION)} {value}" for name, value in drawn.items())
    return f"trial {trial.number:<3} {_fate(trial):<26} {values}"


def _fate(trial: FrozenTrial) -> str:
    if trial.state is TrialState.COMPLETE:
        return f"hold-out accuracy {trial.value:.4f}"
    if trial.state is TrialState.PRUNED:
        return f"ended after epoch {trial.last_step}" if trial.last_step else "diverged"
    return trial.state.name.lower()


def main() -> Any:
    parent_watch.exit_with_parent()
    try:
        paths = Paths.find()
        settings.apply(paths)
        search(paths, params.load(paths.params), TrialWorkerSpec.model_validate_json(sys.stdin.read()))
    except Lenet5Error as error:
        print_error(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
