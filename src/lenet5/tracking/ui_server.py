"""MLflow's server for the runs of this machine, whose pages open on runs and models.

In a browser that has never seen it, MLflow's own page opens in the mode for language models, without a model
registry in the menu, with an assistant that covers a quarter of the page and a dialog over the registry. A
query parameter changes the mode of the pages of an experiment, and of no other page. What a user chooses is
kept in the browser's local storage; this server adds a script to MLflow's page that writes the choices of a
user of models there, where the user has made none.
"""

import json
import sys
from pathlib import Path

import mlflow.server
import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from lenet5.core import files
from lenet5.system import logs, parent_watch, settings

HOST = "127.0.0.1"
STORE = "MLFLOW_BACKEND_STORE_URI"
"""The variable that names the store. An argument would show a password to every user of this machine."""
CHOICES = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "_mlflow_model_registry_promo_modal_dismissed_v1": True,
}
"""Values of the browser's local storage, by MLflow's keys."""
_INDEX = Path(mlflow.server.__file__).parent / "js" / "build" / "index.html"
_HEAD = "<head>"


def page(index: str) -> str:
    """Return MLflow's page with the script that writes the choices.

    Args:
        index: MLflow's page, in HTML.
    """
    script = (
        f"for (const [key, value] of Object.entries({json.dumps(CHOICES)}))"
        "if (localStorage.getItem(key) === null) localStorage.setItem(key, JSON.stringify(value));"
    )
    return index.replace(_HEAD, f"{_HEAD}<script>{script}</script>", 1)


def main() -> None:
    """Serve until SIGTERM, or until the parent process ends. The arguments are ``--port PORT``."""
    logs.configure()
    parent_watch.exit_with_parent()
    uri = settings.given([STORE])[STORE]
    # MLflow's command line passes its options to the processes of its server in these variables
    settings.set_variables(
        {
            mlflow.server.BACKEND_STORE_URI_ENV_VAR: uri,
            mlflow.server.REGISTRY_STORE_URI_ENV_VAR: uri,
            mlflow.server.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
            mlflow.server.ARTIFACTS_DESTINATION_ENV_VAR: "./mlartifacts",
            mlflow.server.SERVE_ARTIFACTS_ENV_VAR: "true",
        }
    )
    from mlflow.server.fastapi_app import app

    content = page(files.read_text(_INDEX))

    async def index(_request: Request) -> HTMLResponse:
        return HTMLResponse(content)

    app.router.routes.insert(0, Route("/", index))  # before the one that answers every path
    uvicorn.Server(uvicorn.Config(app, host=HOST, port=int(sys.argv[-1]), log_level="warning")).run()


if __name__ == "__main__":
    main()
