"""A sweep as Optuna keeps it: a study in a database, which every searcher opens and which outlives them."""

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
DEAD_AFTER_SECONDS = 60
"""A trial whose searcher was silent for so long is another searcher's."""
MAX_RETRIES = 3
"""Of one trial: what kills its searcher again and again is the trial."""
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def name(paths: Paths, sweep: Sweep, params: Params, data: str) -> str:
    """The study's name: the digest of all that decides what a trial's score means.

    The number of trials does not count: more of them go on with the same study. Nor do the values that
    params.yaml has of what is searched, so that writing the winner there begins no other study.

    Args:
        paths: the checkout, for the code of the training.
        sweep: the space, the sampler's seed, the pruner.
        params: for the parameters of the training that are not searched.
        data: digest of the processed data.
    """
    decisive = {
        "data": data,
        "sweep": sweep.model_dump(exclude={"trials"}),
        "params": sweep.fixed(params),
        "code": stage_code.digests(paths, "train"),
        "engine": engine.versions(),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def is_local(url: str) -> bool:
    """Whether the trials are kept in a file of this machine."""
    return url.startswith("sqlite:")


def create(paths: Paths, study: str, sweep: Sweep, params: Params) -> optuna.Study:
    """Open a study, or begin it: its first trial is then params.yaml as it is."""
    made = _open(paths, study, sweep, seed=0)
    own = sweep.own_values(params)
    if not made.get_trials(deepcopy=False) and own:
        made.enqueue_trial(own)
    return made


def join(paths: Paths, study: str, sweep: Sweep, searcher: int) -> optuna.Study:
    """Open a study as one of its searchers.

    Args:
        paths: whose settings name the database.
        study: its name.
        sweep: how it is searched.
        searcher: its number, from 0: each draws numbers of its own.
    """
    # a searcher that goes on must not draw again what it drew before it was ended
    known = len(_open(paths, study, sweep, seed=0).get_trials(deepcopy=False))
    seed = int(np.random.SeedSequence([sweep.seed, searcher, known]).generate_state(1)[0])
    return _open(paths, study, sweep, seed=seed)


def trials(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials in these states, in the order in which they began."""
    return study.get_trials(deepcopy=False, states=states)


def is_complete(study: optuna.Study, sweep: Sweep) -> bool:
    """Whether all trials that are wanted came to an end."""
    return len(trials(study, *DONE)) >= sweep.trials


def drop_dead(study: optuna.Study) -> None:
    """Fail trials whose searcher was silent for too long, and put them into the queue again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def take_over(study: optuna.Study) -> None:
    """Fail every trial that says it runs, and put it into the queue again.

    For when nobody can be at work on them. Where somebody may be, heartbeats tell, and Optuna does the same.
    """
    again = _again()
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        again(study, trial)


def _open(paths: Paths, study: str, sweep: Sweep, *, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=_storage(paths),
        study_name=study,
        direction="maximize",
        load_if_exists=True,
        sampler=TPESampler(seed=seed, constant_liar=True),  # several searchers at a time draw apart
        pruner=_pruner(sweep),
    )


def _pruner(sweep: Sweep) -> BasePruner:
    match sweep.pruner:
        case Percentile(keep=keep, startup_trials=startup, warmup_epochs=warmup):
            # Optuna counts from 0 and prunes at a step that is not below the warm-up; epochs count from 1
            return PercentilePruner(100 * keep, n_startup_trials=startup, n_warmup_steps=warmup + 1)
        case Halving(min_epochs=epochs, reduction=reduction):
            return SuccessiveHalvingPruner(min_resource=epochs, reduction_factor=reduction)
    return NopPruner()


def _storage(paths: Paths) -> RDBStorage:
    url = settings.load(paths).lenet5_sweep_storage
    wait = {"timeout": 60} if is_local(url) else {}  # seconds that SQLite waits for another writer
    if is_local(url):
        LocalState(paths.root).sweeps.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url,
                engine_kwargs={"connect_args": wait, "pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
                heartbeat_stale_trial_callback=_again(),
            )
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise UsageError(
            "LENET5_SWEEP_STORAGE cannot be used.",
            expected="a database URL of SQLAlchemy, such as postgresql+psycopg://user:password@host/sweeps",
            found=f"{settings.in_urls(url)}: {str(error).splitlines()[0]}",
        ) from None
    except OperationalError as error:
        raise Unavailable(
            "The database of the sweeps does not answer.",
            expected=settings.in_urls(url),
            found=settings.in_urls(str(error).splitlines()[0]),
            fix="start it, or correct LENET5_SWEEP_STORAGE",
        ) from None


def _again() -> Callable[[optuna.Study, FrozenTrial], None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)
