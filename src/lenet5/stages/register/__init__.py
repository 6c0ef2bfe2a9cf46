"""Complete the MLflow run of the model and register the model as a version, the challenger."""
