"""Run a training in one process or in several, with a progress bar, MLflow and checkpoints."""
