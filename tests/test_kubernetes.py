"""deploy/kubernetes: what Kubernetes takes, what keeps a pod small, and settings that this program has."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from obms.cli import app
from obms.config import Settings

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
Manifest = dict[str, Any]


def in_file(name: str) -> list[Manifest]:
    return list(yaml.safe_load_all((FOLDER / name).read_text("utf-8")))


KUSTOMIZATION = in_file("kustomization.yaml")[0]
MANIFESTS = [one for name in [*KUSTOMIZATION["resources"], "secret.example.yaml"] for one in in_file(name)]


def named(one: Manifest) -> str:
    return f"{one['kind']} {one['metadata']['name']}"


def kind(name: str) -> list[Manifest]:
    return [one for one in MANIFESTS if one["kind"] == name]


def pod(one: Manifest) -> Manifest:
    spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one["spec"]
    found: Manifest = spec["template"]["spec"]
    return found


PODS = {named(one): pod(one) for one in [*kind("Deployment"), *kind("CronJob")]}


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


@pytest.mark.parametrize("version", ["1.29.0", "1.37.0"])
def test_kubernetes_takes_every_manifest(version: str) -> None:
    for one in MANIFESTS:
        kubernetes_validate.validate(one, version, strict=True)
    wrong = copy.deepcopy(kind("Deployment")[0])
    wrong["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_every_file_is_one_of_the_base_but_the_example_of_a_secret() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")}
    assert there == {*KUSTOMIZATION["resources"], "kustomization.yaml", "secret.example.yaml"}
    assert not [
        one for name in KUSTOMIZATION["resources"] for one in in_file(name) if one["kind"] == "Secret"
    ]


def loose(spec: Manifest) -> Iterator[str]:
    """What a pod may do and need not."""
    user = spec["securityContext"]
    if not (
        user["runAsNonRoot"] and user["runAsUser"] and user["seccompProfile"]["type"] == "RuntimeDefault"
    ):
        yield "its user"
    if spec["automountServiceAccountToken"]:
        yield "a token of the cluster"
    for one in containers(spec):
        held = one["securityContext"]
        if held["allowPrivilegeEscalation"] or held["capabilities"] != {"drop": ["ALL"]}:
            yield "privileges"
        if not held["readOnlyRootFilesystem"]:
            yield "writing into its image"
        if (
            not {"cpu", "memory"} <= one["resources"]["requests"].keys()
            or not one["resources"]["limits"]["memory"]
        ):
            yield "unbounded resources"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_no_more_than_it_needs(name: str) -> None:
    assert list(loose(PODS[name])) == []
    assert {one["name"] for one in PODS[name]["volumes"]} == {"backups", "data", "temporary"}
    for one in containers(PODS[name]):
        assert {mount["mountPath"] for mount in one["volumeMounts"]} == {"/backups", "/data", "/tmp"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec["securityContext"].update(runAsUser=0),
        lambda spec: spec["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
        lambda spec: spec["containers"][0]["securityContext"].update(capabilities={}),
        lambda spec: spec["containers"][0]["resources"]["limits"].update(memory=None),
    ],
)
def test_a_pod_that_may_do_more_is_told(spoil: Callable[[Manifest], None]) -> None:
    spec = copy.deepcopy(PODS["CronJob backup"])
    spoil(spec)
    assert list(loose(spec))


def test_the_jobs_keep_the_schedule_and_nobody_else() -> None:
    (settings,) = kind("ConfigMap")
    assert settings["data"]["BACKUP_SCHEDULE"] == settings["data"]["DRILL_SCHEDULE"] == "off"
    (api,) = PODS["Deployment api"]["containers"]
    assert api["args"] == ["obms", "serve", "--no-schedule"]
    assert {one["metadata"]["name"]: pod(one)["containers"][0]["args"] for one in kind("CronJob")} == {
        "backup": ["obms", "backup", "run"],
        "drill": ["obms", "drill"],
    }
    assert all(one["spec"]["concurrencyPolicy"] == "Forbid" for one in kind("CronJob"))
    assert all(pod(one)["restartPolicy"] == "Never" for one in kind("CronJob"))


def test_the_database_decides_whether_it_is_asked_and_not_whether_it_is_restarted() -> None:
    (api,) = PODS["Deployment api"]["containers"]
    assert api["readinessProbe"]["httpGet"]["path"] == "/health"
    assert api["livenessProbe"]["httpGet"]["path"] == "/version"


def test_every_setting_and_every_command_is_one_of_this_program() -> None:
    known = {name.upper() for name in Settings.model_fields}
    (settings,), (secret,) = kind("ConfigMap"), kind("Secret")
    assert {*settings["data"], *secret["stringData"]} <= known
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for spec in PODS.values():
        for one in containers(spec):
            assert one["args"][0] == "obms"
            assert one["args"][1] in commands
            assert one["envFrom"] == [
                {"configMapRef": {"name": settings["metadata"]["name"]}},
                {"secretRef": {"name": secret["metadata"]["name"]}},
            ]


def test_the_service_leads_to_the_api() -> None:
    (service,), (deployment,) = kind("Service"), kind("Deployment")
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert str(port["containerPort"]) == kind("ConfigMap")[0]["data"]["PORT"]
