"""The template of the work pool and the manifests of the worker follow Kubernetes' own schemas."""

import json
import re
import shlex
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
from prefect.utilities.templating import apply_values, find_placeholders
from ruamel.yaml import YAML

from lenet5.orchestration import graph
from lenet5.serving import http_app
from lenet5.serving.service_metrics import ServiceMetrics
from lenet5.system.settings import Settings
from tests.conftest import REPOSITORY
from tests.test_docs import code

FOLDER = REPOSITORY / "docs/kubernetes"
TEMPLATE: dict[str, Any] = json.loads((FOLDER / "gpu-pool.json").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document
    for file in ("worker.yaml", "serve.yaml")
    for document in YAML(typ="safe").load_all((FOLDER / file).read_text())
]
PAGE = REPOSITORY / "docs/kubernetes.md"
VERSIONS = ["1.30", "1.34", "1.37"]
PLACED = [stage for stage in graph.stages(REPOSITORY) if stage.meta.work_pool]
COMMANDS = {
    each["work_pool"]["job_variables"]["command"]
    for each in YAML(typ="safe").load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
}


def job(**variables: Any) -> dict[str, Any]:
    """Make the job as a worker does: Prefect substitutes the variables in the template."""
    known = TEMPLATE["variables"]["properties"]
    jsonschema.validate(variables, TEMPLATE["variables"])  # the server validates a flow run in the same way
    defaults = {name: each["default"] for name, each in known.items() if "default" in each}
    made: dict[str, Any] = apply_values(TEMPLATE["job_configuration"], defaults | variables)["job_manifest"]
    [container] = made["spec"]["template"]["spec"]["containers"]
    container["args"] = shlex.split(container["args"])  # as the worker does
    return made


def pod(made: dict[str, Any]) -> dict[str, Any]:
    return dict(made["spec"]["template"]["spec"])


def manifest(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in MANIFESTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stage", [None, *PLACED], ids=lambda stage: stage.name if stage else "defaults")
def test_a_job_is_valid(stage: graph.Stage | None, version: str) -> None:
    resources = stage.meta.resources if stage else {}
    for command in COMMANDS:
        kubernetes_validate.validate(job(command=command, **resources), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", MANIFESTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_a_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_a_broken_manifest_is_refused() -> None:
    misspelt = job()
    misspelt["spec"]["template"]["spec"]["restartPolice"] = "Never"
    mistyped = job() | {"spec": job()["spec"] | {"backoffLimit": "none"}}
    for broken in (misspelt, mistyped):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)
    for variables in ({"gpus": "many"}, {"state_volume": {"name": "other", "emptyDir": {}}}):
        with pytest.raises(jsonschema.ValidationError):
            job(**variables)


def test_every_placeholder_is_a_variable_and_every_variable_is_used() -> None:
    used = {each.name for each in find_placeholders(TEMPLATE["job_configuration"])}
    assert used == set(TEMPLATE["variables"]["properties"])


def test_job_has_the_fields_that_the_worker_of_prefect_requires() -> None:
    made = job()
    assert made["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert pod(made)["containers"][0]["name"] == "prefect-job"
    # it wants both in the pod, where Kubernetes knows none; it takes them here
    assert (made["spec"]["parallelism"], made["spec"]["completions"]) == (1, 1)


@pytest.mark.parametrize("stage", PLACED, ids=lambda stage: stage.name)
def test_resources_of_a_stage_reach_its_pod(stage: graph.Stage) -> None:
    assert set(stage.meta.resources) <= set(TEMPLATE["variables"]["properties"])
    limits = pod(job(**stage.meta.resources))["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == stage.meta.resources["gpus"]


def test_a_job_gets_no_gpu_by_default() -> None:
    assert pod(job())["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 0


def test_a_job_outlives_the_longest_stage_and_is_not_repeated_by_kubernetes() -> None:
    spec = job()["spec"]
    assert spec["activeDeadlineSeconds"] > sum(
        stage.meta.timeout_seconds for stage in graph.stages(REPOSITORY)
    )
    assert spec["backoffLimit"] == 0


def test_pods_are_the_user_of_the_image_and_may_write_only_into_volumes() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    [user, group] = map(int, re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)[0])
    made = pod(job())
    assert (
        made["securityContext"] | {"runAsUser": user, "runAsGroup": group, "fsGroup": group}
        == (made["securityContext"])
    )
    [container] = made["containers"]
    [folder] = re.findall(r"^WORKDIR (.+)$", dockerfile.rpartition("\nFROM ")[2], re.MULTILINE)
    assert container["workingDir"] == folder
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounted[f"{folder}/.lenet5"] == "state"
    assert "HOME=/tmp" in dockerfile
    assert "/tmp" in mounted
    assert set(mounted.values()) == {volume["name"] for volume in made["volumes"]}


def test_nothing_is_privileged() -> None:
    deployed = [
        manifest("Deployment", name)["spec"]["template"]["spec"]
        for name in ("lenet5-worker-gpu", "lenet5-serve")
    ]
    for each in (pod(job()), *deployed):
        assert each["securityContext"]["runAsNonRoot"]
        assert each["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in each["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_the_service_listens_where_its_probes_and_its_clients_ask() -> None:
    [container] = manifest("Deployment", "lenet5-serve")["spec"]["template"]["spec"]["containers"]
    [port] = container["ports"]
    assert port["containerPort"] == 8080  # the default of `lenet5 serve`
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
        assert container[probe]["httpGet"]["path"] in http_app.PUBLIC
    assert manifest("Service", "lenet5-serve")["spec"]["ports"][0]["targetPort"] == port["name"]
    metric = manifest("HorizontalPodAutoscaler", "lenet5-serve")["spec"]["metrics"][0]["pods"]["metric"][
        "name"
    ]
    assert metric in ServiceMetrics(None).exposition().decode()


def test_every_object_that_a_job_refers_to_is_in_the_manifests() -> None:
    made = pod(job())
    assert not manifest("ServiceAccount", made["serviceAccountName"])["automountServiceAccountToken"]
    config, secret = made["containers"][0]["envFrom"]
    data = manifest("ConfigMap", config["configMapRef"]["name"])["data"]
    assert f"secret generic {secret['secretRef']['name']} " in code(PAGE)
    namespaces = {each["metadata"].get("namespace", "lenet5") for each in MANIFESTS}
    assert namespaces == {job()["metadata"]["namespace"]}
    assert set(data) <= {name.upper() for name in Settings.model_fields}
    secrets = {
        name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }
    assert not secrets & set(data)


def test_the_page_names_files_and_variables_that_exist() -> None:
    typed = code(PAGE)
    for path in re.findall(r"docs/kubernetes/[a-z.-]+", typed):
        assert (REPOSITORY / path).exists(), path
    for name in re.findall(r"\b((?:LENET5|AWS|MLFLOW)_[A-Z0-9_]+)\b", typed):
        assert name.lower() in Settings.model_fields, name
    variables = TEMPLATE["variables"]["properties"]
    for name in re.findall(r"\.([a-z_]+)\.default\b", typed):
        assert name in variables, name
    version = re.search(r"^prefect-version: (\S+)$", (REPOSITORY / "prefect.yaml").read_text(), re.MULTILINE)
    worker = manifest("Deployment", "lenet5-worker-gpu")["spec"]["template"]["spec"]["containers"][0]
    assert version
    assert f":{version[1]}-" in worker["image"]
