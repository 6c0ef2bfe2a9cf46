"""The names of all tags on MLflow runs and model versions."""

# code
COMMIT = "mlflow.source.git.commit"
DIRTY = "git.dirty"
PATCH = "git.patch"
"""SHA-256 of the uncommitted changes; empty when everything was committed."""
DVC_LOCK = "lenet5.dvc_lock"
"""SHA-256 of ``dvc.lock`` at registration."""

# data, training, model: SHA-256
RAW_DATA = "lenet5.raw_data"
PROCESSED_DATA = "lenet5.processed_data"
TEST_DATA = "lenet5.test_data"
CORRUPTED_IMAGES = "lenet5.corrupted_images"
"""SHA-256 of the corrupted test images. Versions of earlier releases have no such tag."""
PINS = "ingest.sha256."
"""Prefix: SHA-256 of each array of each source, by the key in ``params.yaml``."""
ADDITION = f"{PINS}addition_"
"""Prefix: the same of an addition to the train images, by its position, from 1."""
DATA_NAME = "lenet5.data_name"
"""Name of the data set. Versions of earlier releases have neither this tag nor the next five."""
CLASSES = "lenet5.classes"
"""Names of the classes, as JSON."""
IMAGE_SHAPE = "lenet5.image_shape"
"""Shape of the raw images: ``28x28``, or ``32x32x3`` for RGB."""
PICTURES = "lenet5.pictures"
"""How a client converts a picture: ``lenet5.core.dataset.Pictures``."""
LICENCE = "lenet5.data_licence"
ABOUT = "lenet5.about"
"""Description of a registered model as `lenet5 register` wrote it. Nobody has edited an equal one."""
ORIGINS = "lenet5.data_sources"
"""Which rows of the raw data come from which source, as JSON."""
TRAINING = "lenet5.training"
WEIGHTS = "lenet5.weights"
MODEL_FILE = "lenet5.model_file"
VALIDATION = "lenet5.validation"
"""The result of Great Expectations, as text."""

# files that later commands need: JSON object, path → SHA-256
ARTIFACTS = "lenet5.artifacts"
MODEL_FOLDER = "lenet5.model_folder"
KERAS_FILE = "data/model.keras"
ONNX_FILE = "data/model.onnx"
"""Path in the model folder. Versions of earlier releases have no such file."""

# machine and user
ENVIRONMENT = "environment."
"""Prefix: what decides the last bits of the weights."""
SWITCHES = f"{ENVIRONMENT}switches"
MACHINE = "machine."
"""Prefix: the machine that trained. A run that was rebuilt from files has no such tags."""
FLOW_RUN = "prefect.flow_run_id"
ORIGIN = {
    COMMIT: "Git commit",
    PATCH: "Uncommitted changes (SHA-256 of code/uncommitted.patch in the run)",
    DVC_LOCK: "dvc.lock (SHA-256)",
    VALIDATION: "Great Expectations (Data Docs: validation/ in the run)",
    FLOW_RUN: "Prefect flow run",
    f"{ENVIRONMENT}packages": "Packages",
    f"{ENVIRONMENT}requirements": "requirements.lock (SHA-256)",
    SWITCHES: "Engine variables",
    f"{ENVIRONMENT}device": "Device",
    f"{ENVIRONMENT}threads": "Threads",
    f"{MACHINE}processor": "Processor",
    f"{MACHINE}instruction_set": "Instruction set",
    f"{MACHINE}host": "Host",
    f"{MACHINE}python": "Python",
}
"""The tags of a version that say where it was made, with their titles for people."""

PARAMS = "lenet5.params"
"""Parameters of a version by dotted name, as JSON. Earlier releases wrote no such tag."""
CODE = "lenet5.code"
"""First characters of the SHA-256 of each stage's code of a version, by stage, as JSON.
Earlier releases wrote no such tag."""
# what a person looks for in a list of runs
CHANGES = "changed_parameters"
"""Parameters that differ from the defaults: ``train.kernel_size=5, preprocess.padding=2``, or ``none``."""
DATA = "data"
"""Name and digest of the raw data: ``MNIST 4f4c8e441293``, as `lenet5 versions` shows it."""
DVC_EXPERIMENT = "dvc.experiment"
"""Name of the DVC experiment that trained or registered the model."""

# results
METRICS = "evaluate."
"""Prefix: metrics on the test images."""
ACCURACY = f"{METRICS}accuracy"
"""Accuracy on the test images."""
PARENT = "lenet5.parent"
"""The version that was champion when this version was registered."""
DECISION = "gate.decision"
COMPARISON = "gate.comparison"
RECORDED_VERDICT = "gate.recorded"
"""Answer of the gate to a version that it did not promote, with a digest of what it judged, as JSON."""
REPRODUCED = "reproduced"
CLOSED = "lenet5.closed"
"""Why the cleanup closed a run that its process had not closed."""

# sweeps
SWEEP = "lenet5.sweep"
"""The study of a run. Trials have this tag too. No registered model comes from these runs."""
TRIAL = "lenet5.trial"
"""The number of a trial in its study."""
TRIAL_STATE = "lenet5.trial_state"
"""The state of a trial: running, complete, pruned or diverged."""

# internal to this package
MODEL_ID = "lenet5.model_id"
RECORD = "lenet5.record"
