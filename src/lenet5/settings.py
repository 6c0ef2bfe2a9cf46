"""The embedded defaults of every tool, in one place: local state, and no calls home.

They are defaults: a variable that is already set, such as a server's ``MLFLOW_TRACKING_URI`` or
``PREFECT_API_URL``, wins. Only what decides the bytes of a model is not left to chance: ``ENGINE``.
"""

import os

from lenet5.paths import Paths


def embedded(paths: Paths) -> dict[str, str]:
    """Environment variables under which every tool keeps its state in ``.lenet5/`` and calls nobody."""
    state = paths.state
    return {
        # where things lie
        "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow' / 'mlflow.db'}",
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
        # the embedded Prefect server takes up to 19 s on two cores; its own limit is 20
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's own 7 keep a person waiting for four minutes
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # model files are no code
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2",  # seconds; a training takes about twenty
        # quiet logs; errors are still printed
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


ENGINE = {
    # TensorFlow leaves oneDNN where it finds no AVX-512, and its own kernels' bytes follow the cache's size
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # one instruction set is one code path: the same bytes on every processor that has it
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""What decides the last bits of every sum. No defaults: they win over variables of the same name."""


def apply(paths: Paths) -> None:
    """Put the settings into this process's environment, for it and for what it starts."""
    # Prefect's embedded server dies, after two silent minutes, when its home folder is not there.
    (paths.state / "prefect").mkdir(parents=True, exist_ok=True)
    for name, value in embedded(paths).items():
        os.environ[name] = os.environ.get(name) or value  # empty is as good as unset
    os.environ.update(ENGINE)
