"""The stores of ``tests/tracking``, for the tests of the registry."""

from tests.tracking.conftest import any_client, any_paths, bare_paths, client, model_name, paths

__all__ = ["any_client", "any_paths", "bare_paths", "client", "model_name", "paths"]
