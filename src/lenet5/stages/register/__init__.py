"""Complete the model's MLflow run and register it as a version, the challenger."""
