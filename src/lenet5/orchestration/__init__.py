"""Prefect: when and where each stage of ``dvc.yaml`` runs."""
