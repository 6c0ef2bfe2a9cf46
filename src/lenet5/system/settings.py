"""What a machine says about itself: addresses, keys and folders, from its environment.

``Settings`` has one field for each variable that the product reads. A variable of the environment wins over
``.env`` in the checkout, and that over the embedded default: local state, and no calls home. Only what
decides the bytes of a model is not left to chance: ``ENGINE``.

What decides a result is no setting. That is in ``params.yaml``.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.model.engine import ENGINE_FLAGS
from lenet5.system.state import LocalState

Origin = Literal["environment", ".env", "default"]
EXPERIMENT = "lenet5-mnist"
_OURS = "LENET5_"
_LOGIN = re.compile(r"(?<=://)[^\s/'\"]+@")  # a name alone can be a token


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no time zone of the IANA database, such as UTC or Europe/Paris")
    return name


WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
DatabaseUrl = Annotated[str, StringConstraints(pattern=r"^[a-z0-9+]+://[^\s]+$")]
Cron = Annotated[str, StringConstraints(pattern=r"^\S+( \S+){4}$")]


class Settings(BaseModel):
    """A field is a variable, in lower case; its description is what ``lenet5 status --settings`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=str.upper)

    mlflow_tracking_uri: str = Field(description="the tracking store and registry")
    mlflow_experiment_name: str = Field(EXPERIMENT, description="where runs go")
    mlflow_tracking_username: str | None = Field(None, description="log-in of the tracking server")
    mlflow_tracking_password: SecretStr | None = Field(None, description="its password")
    mlflow_tracking_token: SecretStr | None = Field(None, description="a token in their place")
    prefect_api_url: WebAddress | None = Field(
        None, description="the Prefect server, with /api; none: an embedded one"
    )
    prefect_api_auth_string: SecretStr | None = Field(None, description="its log-in, as user:password")
    aws_access_key_id: str | None = Field(None, description="log-in of the object store")
    aws_secret_access_key: SecretStr | None = Field(None, description="its key")
    aws_session_token: SecretStr | None = Field(None, description="for a log-in that ends by itself")
    aws_default_region: str | None = Field(None, description="the object store's region")
    aws_endpoint_url_s3: WebAddress | None = Field(
        None, description="an object store that is not Amazon's own"
    )
    lenet5_git_url: str | None = Field(None, description="the repository that a worker checks out")
    lenet5_dvc_remote: str | None = Field(
        None, description="the DVC remote that machines share; none: the one in .dvc/config"
    )
    lenet5_checkpoints: str = Field(
        description="where a training keeps its last epoch: a folder or an fsspec URL"
    )
    lenet5_sweep_storage: DatabaseUrl = Field(description="where sweeps keep their trials, as a database URL")
    lenet5_timezone: TimeZone = Field("UTC", description="of every schedule")
    lenet5_nightly: Cron = Field("0 2 * * *", description="when the nightly training starts, as cron")
    lenet5_watch: Cron = Field("*/15 * * * *", description="when the source is looked at for new data")
    lenet5_runs: PositiveInt = Field(2, description="training flows at a time, on all workers together")
    lenet5_gpus: PositiveInt = Field(1, description="stages at a time on GPU workers")
    lenet5_keep_days: PositiveInt = Field(7, description="days until a worker's left-overs are removed")
    lenet5_home: str | None = Field(
        None, description="the folder whose .lenet5 a worker's flow runs share; set by `lenet5 worker`"
    )
    lenet5_flow_run_id: str | None = Field(None, description="set by a flow for its stages")
    lenet5_rendezvous: Annotated[str, StringConstraints(pattern=r"^\d+@\S+:\d+$")] | None = Field(
        None, description="set by a flow for a training on several machines: RANK@HOST:PORT"
    )
    lenet5_supervisor: str | None = Field(
        None, description="set by a flow for its stages: they end when this process does"
    )


@dataclass(frozen=True)
class Fact:
    """One setting as it is in force."""

    name: str
    value: str
    """Fit to be shown: what is secret is masked."""
    origin: Origin
    about: str


def load(paths: Paths) -> Settings:
    """The settings in force.

    Raises:
        UsageError: one cannot be used, or a name that begins with LENET5_ is none of ours.
    """
    known = {name.upper() for name in Settings.model_fields}
    said = {name: value for name, (value, _) in _said(paths).items()}
    # what a flow or a worker handed on is of its own age; this may be the code of an older commit
    typed = {} if {"LENET5_HOME", "LENET5_SUPERVISOR"} & said.keys() else said
    for name in typed:
        if name.startswith(_OURS) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"There is no setting {name}.",
                expected=near[0] if near else "one of those that `.env.example` tells of",
                found=name,
                fix="correct its name, or unset it",
            )
    defaults = embedded(paths) | said
    try:
        return Settings.model_validate({name: value for name, value in defaults.items() if name in known})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0])
        where = ".env" if name not in os.environ else "the environment"
        raise UsageError(
            f"The setting {name} cannot be used.",
            expected=first["msg"].removeprefix("Value error, "),
            found=mask(name, said.get(name)),
            fix=f"correct it in {where}; `.env.example` tells what it is",
        ) from None


def facts(paths: Paths) -> list[Fact]:
    """Every setting, the product's and the tools', with its origin, until :func:`apply` mixes those."""
    load(paths)  # what cannot be used is an error here, too
    said = _said(paths)
    about = {name.upper(): field.description or "" for name, field in Settings.model_fields.items()}
    defaults: dict[str, Any] = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    values = defaults | embedded(paths)
    found = []
    for name, default in values.items():
        value, origin = said.get(name, (default, "default"))
        found.append(Fact(name, mask(name, value), origin, about.get(name, "")))
    fixed = [Fact(name, value, "default", "fixed: it decides bytes") for name, value in ENGINE_FLAGS.items()]
    return [*found, *fixed]


def mask(name: str, value: object) -> str:
    """A value that may be shown: no password, key or token."""
    if value is None or value == "":
        return ""
    field = Settings.model_fields.get(name.lower())
    if field and "SecretStr" in str(field.annotation):
        return "********"
    return in_urls(str(value))


def in_urls(text: str, shown: str = "********@") -> str:
    """A text with something else in place of the log-in of each URL in it."""
    return _LOGIN.sub(shown, text)


def apply(paths: Paths) -> None:
    """Put the settings into this process's environment, for it and for what it starts.

    Raises:
        UsageError: one of them cannot be used.
    """
    load(paths)
    # Prefect's embedded server dies, after two silent minutes, when its home folder is not there.
    (LocalState(paths.root).folder / "prefect").mkdir(parents=True, exist_ok=True)
    said = {name: value for name, (value, _) in _said(paths).items()}
    os.environ.update(embedded(paths) | said | ENGINE_FLAGS)
    if "://" not in os.environ["LENET5_CHECKPOINTS"]:  # the same folder for stages, which work elsewhere
        os.environ["LENET5_CHECKPOINTS"] = str(paths.root / os.environ["LENET5_CHECKPOINTS"])


def embedded(paths: Paths) -> dict[str, str]:
    """Environment variables under which every tool keeps its state in ``.lenet5/`` and calls nobody."""
    state = LocalState(paths.root).folder
    return {
        # where things lie
        "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow' / 'mlflow.db'}",
        "LENET5_CHECKPOINTS": str(state / "checkpoints"),
        "LENET5_SWEEP_STORAGE": f"sqlite:///{state / 'sweeps' / 'sweeps.db'}",
        "PREFECT_HOME": str(state / "prefect"),
        "DVC_SITE_CACHE_DIR": str(state / "dvc"),
        "DVC_GLOBAL_CONFIG_DIR": str(state / "dvc" / "config"),
        "KERAS_HOME": str(state / "keras"),
        "MPLCONFIGDIR": str(state / "matplotlib"),
        # no analytics, no telemetry, no look-ups of newer versions
        "DO_NOT_TRACK": "true",  # the word: MLflow does not take "1"
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's
        # the embedded Prefect server takes up to 19 s on two cores; its own limit is 20
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds, the least there is; they show a dead worker
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's own 7 keep a person waiting for four minutes
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # model files are no code
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2",  # seconds; a training takes about twenty
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take three quarters of a GPU's memory at once
        # JAX compiles anew in every process, which takes longer than an epoch, unless it finds its own work
        "JAX_COMPILATION_CACHE_DIR": str(state / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # quiet logs; errors are still printed
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }


def _said(paths: Paths) -> Mapping[str, tuple[str, Origin]]:
    """What was set by somebody; empty is as good as unset."""
    file: dict[str, tuple[str, Origin]] = {
        name: (value, ".env") for name, value in dotenv_values(paths.root / ".env").items() if value
    }
    shell: dict[str, tuple[str, Origin]] = {
        name: (value, "environment") for name, value in os.environ.items() if value
    }
    return file | shell
