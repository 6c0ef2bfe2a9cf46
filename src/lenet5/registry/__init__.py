"""The model registry: versions, the promotion gate, aliases and their log, lineage, reproduction."""
