"""Creates the MLflow account of the workers, which manages all runs and models, and no users.

The script sets its password each time, so a new secret takes effect after `make up`.
"""

import os

from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient

NAME = os.environ["ACCOUNT_NAME"]
PASSWORD = os.environ["ACCOUNT_PASSWORD"]
ROLE, WORKSPACE = "pipeline", "default"
RESOURCES = ["experiment", "registered_model"]

server = AuthServiceClient(os.environ["MLFLOW_TRACKING_URI"])
try:
    server.get_user(NAME)
    server.update_user_password(NAME, PASSWORD)
except MlflowException as error:
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise
    server.create_user(NAME, PASSWORD)

role = next((role for role in server.list_roles(WORKSPACE) if role.name == ROLE), None)
role = role or server.create_role(WORKSPACE, ROLE, "All experiments and all models")
granted = {permission.resource_type for permission in server.list_role_permissions(role.id)}
for resource in RESOURCES:
    if resource not in granted:
        server.add_role_permission(role.id, resource, "*", "MANAGE")
if role.id not in {mine.id for mine in server.list_user_roles(NAME)}:
    server.assign_role(NAME, role.id)
print(f"account {NAME}: ready", flush=True)
