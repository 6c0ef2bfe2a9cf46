"""Writes the secrets of docker-compose.yml into a folder: python make_secrets.py FOLDER. Needs only Python.

Random secrets are created once and kept, so the script can run any number of times. Files that contain these
secrets in the format of a server are written again when a secret changes. To use your own secret, such as the
key of another S3 store, write its file before.
"""

import json
import os
import secrets
import sys
from pathlib import Path

RANDOM = [
    "postgres_password",  # of the database's superuser
    "mlflow_db_password",
    "prefect_db_password",
    "mlflow_admin_password",
    "mlflow_pipeline_password",  # of the account that workers use
    "mlflow_session_key",
    "prefect_password",
    "s3_admin_secret",
    "s3_mlflow_secret",
    "s3_dvc_secret",
    "serve_key",  # of the clients of `lenet5 serve`
]

MLFLOW_AUTH = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {uri}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# seconds; without a cache, every request hashes its password, which takes a third of a second
auth_cache_ttl_seconds = 60
"""


def derived(secret: dict[str, str]) -> dict[str, str]:
    """Return the content of the files that contain passwords in the format of a server, by name."""
    mlflow = f"postgresql+psycopg://mlflow:{secret['mlflow_db_password']}@postgres:5432"
    return {
        "mlflow_database_uri": f"{mlflow}/mlflow",
        "mlflow_auth.ini": MLFLOW_AUTH.format(uri=f"{mlflow}/mlflow_auth"),
        "prefect_database_url": (
            f"postgresql+asyncpg://prefect:{secret['prefect_db_password']}@postgres:5432/prefect"
        ),
        "prefect_auth": f"admin:{secret['prefect_password']}",
        "s3.json": json.dumps({"identities": identities(secret)}, indent=2),
    }


def identities(secret: dict[str, str]) -> list[dict[str, object]]:
    """Return the users of SeaweedFS: one that creates buckets, and one for each bucket."""

    def identity(name: str, actions: list[str]) -> dict[str, object]:
        key = {"accessKey": name, "secretKey": secret[f"s3_{name}_secret"]}
        return {"name": name, "credentials": [key], "actions": actions}

    own = [
        identity(name, [f"{action}:{name}" for action in ("Read", "Write", "List", "Tagging")])
        for name in ("mlflow", "dvc")
    ]
    return [identity("admin", ["Admin"]), *own]


def write(path: Path, text: str) -> None:
    """Replace a file atomically.

    The user of a container can read the file. The mode of the folder keeps out the users of this machine.
    """
    if path.is_file() and path.read_text() == text:
        return  # a running container keeps the file with which it was started
    aside = path.with_name(f".{path.name}")
    aside.write_text(text)
    aside.chmod(0o444)
    aside.replace(path)


def main(folder: Path) -> None:
    os.umask(0o077)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    made = 0
    for name in RANDOM:
        path = folder / name
        if not path.is_file() or not path.read_text().strip():
            write(path, secrets.token_hex(24))
            made += 1
    for name, text in derived({name: (folder / name).read_text().strip() for name in RANDOM}).items():
        write(folder / name, text)
    print(f"{folder}: {made} secrets created, {len(RANDOM) - made} kept")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
