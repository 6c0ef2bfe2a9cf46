"""The names under which runs and versions say what they are. Every tag has one, and it is here."""

# code
COMMIT = "mlflow.source.git.commit"
DIRTY = "git.dirty"
PATCH = "git.patch"
"""SHA-256 of what was not committed; empty when nothing was."""
DVC_LOCK = "lenet5.dvc_lock"
"""SHA-256 of ``dvc.lock`` as it was when the model was registered."""

# data, training, model: SHA-256
RAW_DATA = "lenet5.raw_data"
PROCESSED_DATA = "lenet5.processed_data"
TEST_DATA = "lenet5.test_data"
PINS = "ingest.sha256."
"""Of the files of the source, by name."""
TRAINING = "lenet5.training"
WEIGHTS = "lenet5.weights"
MODEL_FILE = "lenet5.model_file"
VALIDATION = "lenet5.validation"
"""What Great Expectations said, in words."""

# files that a later command relies on: JSON, SHA-256 by path
ARTIFACTS = "lenet5.artifacts"
MODEL_FOLDER = "lenet5.model_folder"
KERAS_FILE = "data/model.keras"
ONNX_FILE = "data/model.onnx"
"""In the model folder. Versions of earlier releases have none."""

# where and by whom
ENVIRONMENT = "environment."
"""What decides the last bits, by name."""
SWITCHES = f"{ENVIRONMENT}switches"
MACHINE = "machine."
"""Where it was trained, by name; a run that was rebuilt from files has none."""
FLOW_RUN = "prefect.flow_run_id"

# what became of it
METRICS = "evaluate."
PARENT = "lenet5.parent"
"""The version that was champion when this one was registered."""
DECISION = "gate.decision"
COMPARISON = "gate.comparison"
REPRODUCED = "reproduced"
CLOSED = "lenet5.closed"
"""Why a run that nobody ended was ended."""

# sweeps
SWEEP = "lenet5.sweep"
"""The study that a run tells of; its trials have it, too. No model comes from these runs."""
TRIAL = "lenet5.trial"
"""The number of a trial in its study."""
TRIAL_STATE = "lenet5.trial_state"
"""What became of a trial: complete, pruned, diverged."""

# for this package alone
MODEL_ID = "lenet5.model_id"
RECORD = "lenet5.record"
