"""MLflow: the only room that knows it."""
