"""The Helm chart: what it makes of whole installations, and that it keeps what the service needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from fastapi.routing import APIRoute
from pydantic import SecretStr, TypeAdapter

from jobs.key_secrets import check_secret
from jobs.settings import ServiceSettings, WorkerSettings
from service.system.endpoints import router
from service.webhooks.secrets import check_settings
from tests.deploy.chart import (
    CHART,
    INSTALLATIONS,
    ROOT,
    Manifest,
    component,
    containers,
    environment,
    helm,
    of_kind,
    pods,
    rendered,
)

pytestmark = pytest.mark.usefixtures("helm_program")

# Their schemas belong to others, so nobody here validates them.
FOREIGN = {
    "HTTPRoute",
    "ScaledObject",
    "TriggerAuthentication",
    "ServiceMonitor",
    "PodMonitor",
    "PrometheusRule",
}
SETTINGS = {
    f"DOVETAIL_{name.upper()}": field
    for settings in (ServiceSettings, WorkerSettings)
    for name, field in settings.model_fields.items()
}
# Read by the command itself.
OTHERS = {"DOVETAIL_LOG_LEVEL", "DOVETAIL_MODELS_DIR"}

installations = pytest.mark.parametrize("values", [None, *INSTALLATIONS], ids=lambda path: path and path.stem)


@installations
def test_chart_passes_lint_and_kubernetes_accepts_every_field(values: Path | None) -> None:
    done = helm("lint", "--strict", CHART, *(() if values is None else ("-f", values)))
    assert done.returncode == 0, done.stdout + done.stderr
    for manifest in rendered(values):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, "1.37", strict=True)
    names = [(found["kind"], found["metadata"]["name"]) for found in rendered(values)]
    assert len(names) == len(set(names))
    assert all(len(name) <= 63 for _, name in names)


def test_each_kind_of_object_is_in_some_installation() -> None:
    written = {
        kind
        for path in (CHART / "templates").rglob("*.yaml")
        for kind in re.findall(r"^kind: (\w+)$", path.read_text(), re.M)
    }
    assert written == {found["kind"] for values in INSTALLATIONS for found in rendered(values)}


@installations
def test_every_pod_is_restricted(values: Path | None) -> None:
    """Pod Security "restricted", and a root that nobody writes to."""
    for name, pod in pods(rendered(values)):
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"], name
        assert security.get("runAsUser", 1) > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys(), name
        volumes = {key for volume in pod["spec"].get("volumes", []) for key in volume.keys() - {"name"}}
        assert volumes <= {"emptyDir", "persistentVolumeClaim", "projected"}, name
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name


def test_platform_may_choose_users_and_groups() -> None:
    for name, pod in pods(rendered(CHART / "ci/openshift-hpa.yaml")):
        assert pod["spec"]["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}, name


@installations
def test_settings_exist_and_parse(values: Path | None) -> None:
    for _, pod in pods(rendered(values)):
        for container in containers(pod):
            names = [item["name"] for item in container.get("env", [])]
            assert len(names) == len(set(names))
            for name in names:
                assert not name.startswith("DOVETAIL_") or name in SETTINGS.keys() | OTHERS
            for name, text in environment(container).items():
                if name in SETTINGS:
                    parsed = json.loads(text) if text.startswith("[") else text
                    TypeAdapter(SETTINGS[name].rebuild_annotation()).validate_python(parsed)


@installations
def test_addresses_come_after_the_passwords_that_they_name(values: Path | None) -> None:
    for name, pod in pods(rendered(values)):
        for container in containers(pod):
            seen: set[str] = set()
            for item in container.get("env", []):
                assert set(re.findall(r"\$\((\w+)\)", item.get("value", ""))) <= seen, name
                seen.add(item["name"])
            for argument in container.get("args", []):
                assert set(re.findall(r"\$\((\w+)\)", argument)) <= seen, name


@installations
def test_workers_have_the_time_to_drain_and_are_not_asked_over_http(values: Path | None) -> None:
    for name, deployment in of_kind(rendered(values), "Deployment").items():
        pod = deployment["spec"]["template"]
        if component(pod) != "worker":
            continue
        (worker,) = pod["spec"]["containers"]
        drain = float(environment(worker)["DOVETAIL_DRAIN_SECONDS"])
        assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + 60, name
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0, name
        port = {"name": "metrics", "containerPort": int(environment(worker)["DOVETAIL_METRICS_PORT"])}
        assert worker["ports"] == [port]
        for probe in ("startupProbe", "livenessProbe"):
            assert worker[probe]["tcpSocket"] == {"port": "metrics"}, name
        assert "readinessProbe" not in worker


@installations
def test_api_is_probed_where_it_answers(values: Path | None) -> None:
    pod = of_kind(rendered(values), "Deployment")[api_name(values)]["spec"]["template"]
    (api,) = pod["spec"]["containers"]
    routes = {route.path for route in router.routes if isinstance(route, APIRoute)}
    paths = {
        kind: api[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert routes >= set(paths.values())
    assert api["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    # The Service's five seconds, the server's ten for open answers.
    assert pod["spec"]["terminationGracePeriodSeconds"] >= 5 + 10 + 20


def api_name(values: Path | None) -> str:
    (name,) = (
        name for name, pod in pods(rendered(values)) if component(pod) == "api" and pod.get("kind") != "Pod"
    )
    return name


@installations
def test_selectors_find_their_pods_and_no_others(values: Path | None) -> None:
    manifests = rendered(values)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests)}
    for manifest in manifests:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        if manifest["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            assert selected(labels, spec["selector"]["matchLabels"]) == {name}
        elif manifest["kind"] == "Service":
            assert selected(labels, spec["selector"]) == {name}
        elif manifest["kind"] == "PodMonitor":
            assert all("worker" in found for found in selected(labels, spec["selector"]["matchLabels"]))
        elif manifest["kind"] == "ServiceMonitor":
            services = {n: s["metadata"]["labels"] for n, s in of_kind(manifests, "Service").items()}
            assert selected(services, spec["selector"]["matchLabels"]) == {name}
        elif manifest["kind"] == "NetworkPolicy":
            found = selected(labels, spec["podSelector"]["matchLabels"])
            ports = {
                p["name"]
                for n, pod in pods(manifests)
                if n in found
                for p in pod["spec"]["containers"][0]["ports"]
            }
            named = {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
            assert not found or named == ports


def selected(labels: dict[str, dict[str, str]], wanted: dict[str, str]) -> set[str]:
    return {name for name, found in labels.items() if wanted.items() <= found.items()}


@installations
def test_nobody_else_decides_replicas_where_an_autoscaler_does(values: Path | None) -> None:
    manifests = rendered(values)
    scaled = {
        found["spec"]["scaleTargetRef"]["name"]
        for kind in ("ScaledObject", "HorizontalPodAutoscaler")
        for found in of_kind(manifests, kind).values()
    }
    deployments = of_kind(manifests, "Deployment")
    assert scaled <= deployments.keys()
    for name, deployment in deployments.items():
        assert ("replicas" in deployment["spec"]) == (name not in scaled), name


def test_keda_asks_for_a_metric_that_there_is_with_the_key_for_it() -> None:
    manifests = rendered(CHART / "ci/gpu-s3-keda.yaml")
    scaled = of_kind(manifests, "ScaledObject")
    assert {name.rpartition("-")[2]: found["spec"]["minReplicaCount"] for name, found in scaled.items()} == {
        "cutting": 0,
        "spot": 0,
        "steady": 1,
    }
    documented = dict(
        re.findall(
            r"^\| `(dovetail_\w+)` \| gauge \| (.*?) ?\|", (ROOT / "docs/metrics.md").read_text(), re.M
        )
    )
    (service,) = [name for name in of_kind(manifests, "Service") if name.endswith("-api")]
    for found in scaled.values():
        for trigger in found["spec"]["triggers"]:
            metric, _, label = trigger["metadata"]["valueLocation"].rstrip("}").partition("{")
            assert documented[metric] == (f"`{label.partition('=')[0]}`" if label else "")
            assert trigger["metadata"]["url"] == f"http://{service}.video.svc:80/metrics"
            # KEDA takes strings only.
            assert all(isinstance(value, str) for value in trigger["metadata"].values())
            access = of_kind(manifests, "TriggerAuthentication")[trigger["authenticationRef"]["name"]]
            assert secret_text(manifests, access["spec"]["secretTargetRef"][0]).startswith("dv_")


def secret_text(manifests: list[Manifest], reference: dict[str, Any]) -> str:
    data = of_kind(manifests, "Secret")[reference["name"]]["data"]
    text: str = yaml.safe_load(f"!!binary {data[reference['key']]}").decode()
    return text


def test_secrets_that_the_chart_makes_are_good_enough_for_the_service() -> None:
    manifests = rendered()
    secrets = of_kind(manifests, "Secret")
    keys = secrets["release-dovetail-keys"]["data"]
    assert keys.keys() == {"default", "metrics", "webhook-secret"}
    texts = [secret_text(manifests, {"name": "release-dovetail-keys", "key": key}) for key in keys]
    for text in texts[:2]:
        check_secret(text)
    check_settings(ServiceSettings(webhook_secret=SecretStr(texts[2])))
    password = secret_text(manifests, {"name": "release-dovetail-valkey", "key": "password"})
    assert re.fullmatch(r"[A-Za-z0-9]{32,}", password), "it stands in an address"


@installations
def test_every_secret_that_is_named_is_made_or_given(values: Path | None) -> None:
    manifests = rendered(values)
    made = {name: set(found["data"]) for name, found in of_kind(manifests, "Secret").items()}
    given = set(re.findall(r"(?:existingSecret|name): (\w+)", values.read_text())) if values else set()
    for reference in references(manifests):
        name, key = reference["name"], reference.get("key")
        assert name in given or key in made[name], reference


def references(found: Any) -> list[dict[str, str]]:
    """Of keys of Secrets, anywhere in manifests."""
    if isinstance(found, list):
        return [reference for item in found for reference in references(item)]
    if not isinstance(found, dict):
        return []
    own = []
    if "secretKeyRef" in found:
        own = [found["secretKeyRef"]]
    elif "secret" in found and "items" in found["secret"]:
        own = [{"name": found["secret"]["name"], "key": item["key"]} for item in found["secret"]["items"]]
    return own + [reference for value in found.values() for reference in references(value)]


def test_alerts_and_dashboards_are_those_of_compose() -> None:
    manifests = rendered(CHART / "ci/gpu-s3-keda.yaml")
    (rule,) = of_kind(manifests, "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/alerts/dovetail.yaml").read_text())
    shown: dict[str, str] = {}
    for found in of_kind(manifests, "ConfigMap").values():
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        shown |= found["data"]
    sources = {path.name: path.read_text() for path in (ROOT / "deploy/dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in shown.items()} == {
        name: json.loads(text) for name, text in sources.items()
    }


def test_a_packaged_chart_has_what_links_in_its_folder_lead_to(tmp_path: Path) -> None:
    """Alerts and dashboards; a release packages it under a version of its own."""
    done = helm("package", CHART, "--version", "1.4.2", "--app-version", "1.4.2", "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    values = ("--set", "monitoring.enabled=true,dashboards.enabled=true")
    done = helm("template", "release", tmp_path / "dovetail-1.4.2.tgz", "--namespace", "video", *values)
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    (rule,) = of_kind(manifests, "PrometheusRule").values()
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/alerts/dovetail.yaml").read_text())
    (dashboard,) = of_kind(manifests, "ConfigMap").values()
    assert dashboard["data"].keys() == {"dovetail.json"}
    (api,) = of_kind(manifests, "Deployment")["release-dovetail-api"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert api["image"] == "dovetail-api:1.4.2"


def test_uploads_and_streams_pass_proxies_without_buffers_and_limits() -> None:
    (ingress,) = of_kind(rendered(CHART / "ci/gpu-s3-keda.yaml"), "Ingress").values()
    nginx = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert nginx["proxy-body-size"] == "0"
    assert nginx["proxy-buffering"] == nginx["proxy-request-buffering"] == "off"
    assert int(nginx["proxy-read-timeout"]) >= 24 * 3600
    (route,) = of_kind(rendered(CHART / "ci/mig-own-secrets.yaml"), "HTTPRoute").values()
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s", "backendRequest": "0s"}
