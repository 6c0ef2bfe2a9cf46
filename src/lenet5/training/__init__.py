"""Run a training: in this process or across several, followed by a progress bar, MLflow and checkpoints."""
