"""Settings of one machine: addresses, credentials, folders and schedules.

``Settings`` has one field for each environment variable that the product reads. An environment variable
overrides ``.env`` of the checkout, which overrides the embedded default. The embedded defaults keep all state
in ``.lenet5/`` and turn telemetry off.

Parameters that change a result are in ``params.yaml``, not here. A user cannot set the engine variables in
``ENGINE_FLAGS``, because they change the bytes of a model.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lenet5.core import files
from lenet5.core.errors import UsageError
from lenet5.core.paths import Paths
from lenet5.core.text import MASK, mask_urls
from lenet5.model.engine import ENGINE_FLAGS
from lenet5.system.state import LocalState

Origin = Literal["environment", ".env", "default"]
_PREFIX = "LENET5_"
_PROXIES = {"http_proxy", "https_proxy", "all_proxy"}
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_EMBEDDED_SERVER = re.compile(r"PREFECT_(SERVER|API_DATABASE|API_SERVICES|LOGGING|UI)_.*")
"""Variables that configure a Prefect server."""
_REMOVED = re.compile(
    r"PYTHONWARNINGS|MATPLOTLIBRC|MPLBACKEND|PANDAS_\w+|SCIPY_ARRAY_API|SKLEARN_\w+|GX_HOME"
    r"|KERAS_(NNX_ENABLED|TORCH_DEVICE|DISTRIBUTION_\w+)|TF_USE_LEGACY_KERAS|TF_ONEDNN_ASSUME_FROZEN_WEIGHTS|ORT_(?!DISABLE_TELEMETRY)\w+"
)
"""Variables that change how the libraries of the stages work. The stages need the defaults."""
_SET_BY_PARENT = {"LENET5_HOME", "LENET5_SUPERVISOR"}


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of time zones is an OSError
        raise ValueError("a time zone of the IANA database, such as UTC or Europe/Paris") from None
    return name


def _matching(pattern: str, expected: str) -> AfterValidator:
    """Return a validator of strings; ``expected`` completes "expected: …" of the error."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(expected)
        return value

    return AfterValidator(check)


WebAddress = Annotated[str, _matching(r"https?://\S+", "a web address, such as http://127.0.0.1:4200/api")]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
DatabaseUrl = Annotated[
    str, _matching(r"[a-z0-9+]+://.+", "an SQLAlchemy URL, such as postgresql+psycopg://user@host/database")
]
Cron = Annotated[str, _matching(r"\S+( \S+){4}", "five cron fields, such as 0 2 * * *")]
Rendezvous = Annotated[str, _matching(r"\d+@\S+:\d+", "RANK@HOST:PORT")]


class Settings(BaseSettings):
    """The settings in force. A field is the environment variable of the same name in upper case.

    ``lenet5 status --settings`` prints the descriptions.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",  # the environment and .env also hold variables of other programs
        alias_generator=str.upper,
        case_sensitive=True,
        env_ignore_empty=True,
        env_file_encoding="utf-8",
    )

    mlflow_tracking_uri: str = Field(description="Tracking store and registry")
    mlflow_experiment_name: str | None = Field(
        None, description="MLflow experiment of the runs; unset: register.model_name"
    )
    mlflow_tracking_username: str | None = Field(None, description="User name for the tracking server")
    mlflow_tracking_password: SecretStr | None = Field(None, description="Password for the tracking server")
    mlflow_tracking_token: SecretStr | None = Field(
        None, description="Token for the tracking server, instead of user name and password"
    )
    prefect_api_url: WebAddress | None = Field(
        None, description="Prefect server, with /api; unset: an embedded server"
    )
    prefect_api_auth_string: SecretStr | None = Field(
        None, description="Credentials for the Prefect server, as user:password"
    )
    aws_access_key_id: str | None = Field(None, description="Access key of the object store")
    aws_secret_access_key: SecretStr | None = Field(None, description="Secret key of the object store")
    aws_session_token: SecretStr | None = Field(None, description="Session token of temporary credentials")
    aws_default_region: str | None = Field(None, description="Region of the object store")
    aws_endpoint_url_s3: WebAddress | None = Field(
        None, description="Address of an S3 object store; unset: Amazon S3"
    )
    lenet5_git_url: str | None = Field(None, description="Git repository that a worker checks out")
    lenet5_dvc_remote: str | None = Field(
        None, description="DVC remote that machines share; unset: the remote in .dvc/config"
    )
    lenet5_checkpoints: str = Field(
        description="Folder or fsspec URL where a training stores its last checkpoint"
    )
    lenet5_sweep_storage: DatabaseUrl = Field(description="Database URL where sweeps store their trials")
    lenet5_timezone: TimeZone = Field("UTC", description="Time zone of every schedule")
    lenet5_nightly: Cron = Field("0 2 * * *", description="Cron schedule of the nightly training")
    lenet5_watch: Cron = Field("*/15 * * * *", description="Cron schedule of the check for new source data")
    lenet5_runs: PositiveInt = Field(2, description="Concurrent training flows on all CPU workers together")
    lenet5_gpus: PositiveInt = Field(1, description="Concurrent stages on all GPU workers together")
    lenet5_keep_days: PositiveInt = Field(
        7, description="Days after which clean-up removes old workspaces and checkpoints"
    )
    lenet5_serve_key: SecretStr | None = Field(
        None, description="API key of `lenet5 serve`; needed for addresses other than this machine's own"
    )
    dvc_stage: str | None = Field(None, description="Set by DVC for a stage: its name")
    lenet5_home: str | None = Field(
        None, description="Set by `lenet5 worker`: folder whose .lenet5 its flow runs share"
    )
    lenet5_flow_run_id: str | None = Field(None, description="Set by a flow for its stages: its flow run id")
    lenet5_rendezvous: Rendezvous | None = Field(
        None, description="Set by a flow for a training on several machines: RANK@HOST:PORT"
    )
    lenet5_supervisor: str | None = Field(
        None, description="Set by a parent process: its PID and start time; the child exits with it"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Give the arguments the lowest priority, because they are the embedded defaults."""
        return env_settings, dotenv_settings, init_settings


@dataclass(frozen=True)
class ResolvedSetting:
    """One setting as it is in force."""

    name: str
    value: str
    """The value without secrets."""
    origin: Origin
    about: str


def load(paths: Paths) -> Settings:
    """Read the settings in force.

    Raises:
        UsageError: a value is invalid, or a variable begins with LENET5_ and is not a setting.
    """
    assigned = _assigned(paths)
    _require_known(assigned)
    try:
        settings = Settings(_env_file=paths.root / ".env", **embedded(paths))  # type: ignore[call-arg, arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = str(first["loc"][0])
        value, origin = assigned[name]
        raise UsageError(
            f"The setting {name} is invalid.",
            expected=first["msg"].removeprefix("Value error, "),
            found=mask(name, value),
            fix=f"correct {name} in {'.env' if origin == '.env' else 'the environment'}; "
            "`.env.example` describes it",
        ) from None
    if "://" in settings.lenet5_checkpoints:
        return settings
    # stages work in other folders, and all of them must find the same checkpoints
    return settings.model_copy(update={"lenet5_checkpoints": str(paths.root / settings.lenet5_checkpoints)})


def resolved(paths: Paths) -> list[ResolvedSetting]:
    """List every setting, of the product and of its tools, with its origin.

    After :func:`apply`, the origin of each variable is the environment.

    Raises:
        UsageError: as :func:`load`.
    """
    assigned = _assigned(paths)
    about = {name.upper(): field.description or "" for name, field in Settings.model_fields.items()}
    values: dict[str, object] = {name.upper(): value for name, value in load(paths)}
    for name, default in embedded(paths).items():
        values.setdefault(name, assigned.get(name, (default, "default"))[0])
    settings = []
    for name, value in values.items():
        _, origin = assigned.get(name, ("", "default"))
        settings.append(ResolvedSetting(name, mask(name, value), origin, about.get(name, "")))
    flags = [
        ResolvedSetting(name, value, "default", "Fixed, because it changes the bytes of a model")
        for name, value in ENGINE_FLAGS.items()
    ]
    return [*settings, *flags]


def mask(name: str, value: object) -> str:
    """Return the value of a setting without passwords, keys and tokens."""
    if value is None or value == "":
        return ""
    field = Settings.model_fields.get(name.lower())
    if field and "SecretStr" in str(field.annotation):
        return MASK
    return mask_urls(str(value))


def exports(paths: Paths) -> dict[str, str]:
    """Return the environment variables that :func:`apply` sets, secrets included.

    These are the embedded defaults, the variables of ``.env`` and the engine variables, each with the value
    in force.

    Raises:
        UsageError: as :func:`load`.
    """
    settings = load(paths)
    defaults = embedded(paths)
    assigned = _assigned(paths)
    chosen = {
        name: value for name, (value, origin) in assigned.items() if origin == ".env" or name in defaults
    }
    fixed = {"LENET5_CHECKPOINTS": settings.lenet5_checkpoints, "KERAS_HOME": defaults["KERAS_HOME"]}
    return {**defaults, **chosen, **_without_proxy_for_this_machine(assigned), **fixed, **ENGINE_FLAGS}


def _without_proxy_for_this_machine(assigned: Mapping[str, tuple[str, Origin]]) -> dict[str, str]:
    """Return the variables that keep requests to this machine away from a proxy.

    The embedded servers listen on the loopback interface, which no proxy reaches.
    """
    if not any(name.lower() in _PROXIES for name in assigned):
        return {}
    given = [assigned[name][0] for name in ("no_proxy", "NO_PROXY") if name in assigned]
    hosts = [host.strip() for host in ",".join(given).split(",") if host.strip()]
    value = ",".join(dict.fromkeys([*hosts, *_THIS_MACHINE]))
    return {"NO_PROXY": value, "no_proxy": value}


def apply(paths: Paths) -> None:
    """Export the settings to the environment of this process, for libraries and child processes.

    Variables that would change how the libraries of the stages work are removed.

    MLflow, Prefect, DVC and the object store's client read their settings from the environment.

    Raises:
        UsageError: as :func:`load`.
        DataError: as :func:`LocalState.prepare`.
    """
    variables = exports(paths)
    LocalState(paths.root).prepare()
    os.environ.update(variables)
    for name in [name for name in os.environ if _REMOVED.fullmatch(name)]:
        del os.environ[name]


def set_variables(variables: Mapping[str, str | None]) -> None:
    """Set environment variables of this process, for libraries and child processes; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def for_embedded_server(paths: Paths) -> dict[str, str | None]:
    """Return the changes of environment for Prefect's embedded server; None removes a variable.

    Variables that are meant for a server of the user's must not reach it: it would connect to that server's
    database, or ask for that server's password.
    """
    defaults = embedded(paths)
    names = [name for name in os.environ if _EMBEDDED_SERVER.fullmatch(name)]
    return {**dict.fromkeys(names), **{name: defaults[name] for name in defaults if name in names}}


def given(names: Iterable[str]) -> dict[str, str]:
    """Return those of some environment variables that are set, by name."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def any_variable_matches(pattern: re.Pattern[str]) -> bool:
    """Return whether the environment has a variable, not empty, whose whole name matches a pattern."""
    return any(value and pattern.fullmatch(name) for name, value in os.environ.items())


def worker_home() -> Path | None:
    """Return the folder whose ``.lenet5`` a worker's flow runs share; None outside a worker."""
    home = os.environ.get("LENET5_HOME")
    return Path(home) if home else None


def embedded(paths: Paths) -> dict[str, str]:
    """Return the default environment: every tool keeps its state in ``.lenet5/`` and sends no telemetry."""
    state = LocalState(paths.root)
    folder = state.folder
    return {
        # locations
        "MLFLOW_TRACKING_URI": f"sqlite:///{state.mlflow_database}",
        "LENET5_CHECKPOINTS": str(folder / "checkpoints"),
        "LENET5_SWEEP_STORAGE": f"sqlite:///{state.sweeps / 'sweeps.db'}",
        "PREFECT_HOME": str(folder / "prefect"),
        "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc" / "config"),
        "KERAS_HOME": str(folder / "keras"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        # no analytics, no telemetry, no check for newer versions
        "DO_NOT_TRACK": "true",  # MLflow does not accept "1"
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
        # the embedded Prefect server starts in up to 19 s on two cores; Prefect's own limit is 20 s
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        # seconds, the minimum; a flow run without heartbeats is marked as Crashed
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",  # the health check of a worker
        # all files come through the server, whose store a client may not reach; the answer would take minutes
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's 7 retries take four minutes
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # loading a model must not run code
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2",  # seconds; a training takes about 20 s
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would reserve 75 % of the GPU memory
        # JAX compiles in every process, which takes longer than an epoch, unless it has a cache
        "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # short logs; errors are still printed
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }


def _assigned(paths: Paths) -> dict[str, tuple[str, Origin]]:
    """Return the variables of ``.env`` and of the environment. An empty variable counts as unset."""
    file: dict[str, tuple[str, Origin]] = {
        name: (value, ".env")
        for name, value in dotenv_values(files.regular(paths.root / ".env"), encoding="utf-8").items()
        if value
    }
    shell: dict[str, tuple[str, Origin]] = {
        name: (value, "environment") for name, value in os.environ.items() if value
    }
    return file | shell


def _require_known(assigned: Mapping[str, object]) -> None:
    if _SET_BY_PARENT & assigned.keys():
        return  # the parent can run another commit, which has other settings
    known = {name.upper() for name in Settings.model_fields}
    for name in sorted(assigned):
        if name.startswith(_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"There is no setting {name}.",
                expected=near[0] if near else "a setting that `.env.example` describes",
                found=name,
                fix=f"correct the name, or unset {name}",
            )
