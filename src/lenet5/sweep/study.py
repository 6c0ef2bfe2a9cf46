"""Store a sweep as an Optuna study in a database that all trial workers share."""

import hashlib
import json
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

from lenet5.core import stage_code
from lenet5.core.errors import Unavailable, UsageError
from lenet5.core.paths import Paths
from lenet5.model import engine
from lenet5.stages.params import Params
from lenet5.sweep.space import Halving, Percentile, Sweep
from lenet5.system import settings
from lenet5.system.state import LocalState

HEARTBEAT_SECONDS = 10
STALE_SECONDS = 60
"""Time without a heartbeat after which another trial worker repeats a trial."""
MAX_RETRIES = 3
"""How often one trial is repeated. A trial that ends its worker every time must not run forever."""
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of a trial that has ended; a trial that diverged is pruned."""


def name(paths: Paths, sweep: Sweep, params: Params, data: str) -> str:
    """Return the name of a study: the SHA-256 of everything that decides the meaning of a score.

    The number of trials is not part of it, so more trials continue the same study. The values of the searched
    parameters in params.yaml are not part of it either, so writing the winner there starts no new study.

    Args:
        paths: the checkout, for the code of the training.
        sweep: the space, the sampler's seed, the pruner.
        params: for the parameters of the training that are not searched.
        data: the digest of the processed data.
    """
    inputs = {
        "data": data,
        "sweep": sweep.model_dump(exclude={"trials"}),
        "params": sweep.fixed(params),
        "code": stage_code.digests(paths, "train"),
        "engine": engine.versions(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def is_local(url: str) -> bool:
    """Return whether a database URL is a file on this machine."""
    return url.startswith("sqlite:")


def create(paths: Paths, study: str, sweep: Sweep, params: Params) -> optuna.Study:
    """Open or create a study. The first trial of a new study has the values of params.yaml.

    Args:
        paths: the checkout, whose settings name the database.
        study: the name of the study.
        sweep: the space and the pruner.
        params: for the values of the first trial.

    Raises:
        UsageError: the database URL cannot be used.
        Unavailable: the database does not answer.
    """
    optuna_study = _open(paths, study, sweep, seed=0)
    own = sweep.own_values(params)
    if not optuna_study.get_trials(deepcopy=False) and own:
        optuna_study.enqueue_trial(own)
    return optuna_study


def join(paths: Paths, study: str, sweep: Sweep, worker: int) -> optuna.Study:
    """Open a study for one trial worker.

    Args:
        paths: the checkout, whose settings name the database.
        study: the name of the study.
        sweep: the space, the sampler's seed and the pruner.
        worker: the number of the worker, from 0; it is part of the seed.

    Raises:
        UsageError: the database URL cannot be used.
        Unavailable: the database does not answer.
    """
    # the number of trials is part of the seed, so that a restarted worker does not draw the same values again
    trial_count = len(_open(paths, study, sweep, seed=0).get_trials(deepcopy=False))
    seed = int(np.random.SeedSequence([sweep.seed, worker, trial_count]).generate_state(1)[0])
    return _open(paths, study, sweep, seed=seed)


def trials(optuna_study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """Return the trials in these states, in the order of their numbers."""
    return optuna_study.get_trials(deepcopy=False, states=states)


def is_complete(optuna_study: optuna.Study, sweep: Sweep) -> bool:
    """Return whether the requested number of trials has ended."""
    return len(trials(optuna_study, *DONE)) >= sweep.trials


def requeue_stale(optuna_study: optuna.Study) -> None:
    """Fail trials without a heartbeat and queue their values again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(optuna_study)


def requeue_running(optuna_study: optuna.Study) -> None:
    """Fail all running trials and queue their values again.

    Call it only when no worker can be running. Otherwise use :func:`requeue_stale`.
    """
    requeue = _requeue_callback()
    for trial in optuna_study.get_trials(states=(TrialState.RUNNING,)):
        optuna_study.tell(trial.number, state=TrialState.FAIL)
        requeue(optuna_study, trial)


def _open(paths: Paths, study: str, sweep: Sweep, *, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=_storage(paths),
        study_name=study,
        direction="maximize",
        load_if_exists=True,
        sampler=TPESampler(seed=seed, constant_liar=True),  # parallel workers then draw different values
        pruner=_pruner(sweep),
    )


def _pruner(sweep: Sweep) -> BasePruner:
    match sweep.pruner:
        case Percentile(keep=keep, startup_trials=startup, warmup_epochs=warmup):
            # Optuna prunes from step n_warmup_steps on, and a step is the number of an epoch, from 1
            return PercentilePruner(100 * keep, n_startup_trials=startup, n_warmup_steps=warmup + 1)
        case Halving(min_epochs=epochs, reduction=reduction):
            return SuccessiveHalvingPruner(min_resource=epochs, reduction_factor=reduction)
    return NopPruner()


def _storage(paths: Paths) -> RDBStorage:
    url = settings.load(paths).lenet5_sweep_storage
    connect_args = {"timeout": 60} if is_local(url) else {}  # seconds that SQLite waits for another writer
    if is_local(url):
        LocalState(paths.root).sweeps.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": connect_args, "pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=STALE_SECONDS,
                heartbeat_stale_trial_callback=_requeue_callback(),
            )
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            "LENET5_SWEEP_STORAGE cannot be used.",
            expected="a database URL of SQLAlchemy, such as postgresql+psycopg://user:password@host/sweeps",
            found=f"{url}: {str(error).splitlines()[0]}",
            fix="correct LENET5_SWEEP_STORAGE in the environment or in .env",
        ) from None
    except OperationalError as error:
        raise Unavailable(
            "The database of the sweeps does not answer.",
            expected=url,
            found=str(error).splitlines()[0],
            fix="start it, or correct LENET5_SWEEP_STORAGE",
        ) from None


def _requeue_callback() -> Callable[[optuna.Study, FrozenTrial], None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
