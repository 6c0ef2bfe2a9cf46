"""MLflow tracking: the store, runs, their records, and the names of all tags.

Only this package and ``lenet5.registry`` import MLflow.
"""
