"""Values of the chart: mistakes are refused, secrets are kept, and the README describes what there is."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from jobs.settings import WorkerSettings
from tests.deploy.chart import CHART, ROOT, Manifest, component, environment, helm, of_kind, pods, rendered

pytestmark = pytest.mark.usefixtures("helm_program")

# Kubernetes' own objects, and names that users choose.
OPEN = {"kubernetes", "strings", "settings", "amounts"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("api.replica=2", "replica"),
        ('worker.autoscaling.kind="knative"', "autoscaling/kind"),
        ("workers.gpu.gpus=1", "gpus"),
        ("workers.gpu.gpu.count=2", "count"),
        ('workers.gpu.only=["segments"]', "'plan', 'segment', 'join'"),
        ("workers.Large={}", "Large"),
        ("env.DOVETAIL_RESULT_TTL=86400", "DOVETAIL_RESULT_TTL"),
        ('worker.env.DOVETAIL_DRAIN_SECONDS="900"', "DOVETAIL_DRAIN_SECONDS"),
        ("models=[]", "models"),
        ('storage.url="https://bucket"', "storage/url"),
        ('keys.clients.me.scopes=["jobs"]', "scopes"),
        ('keys.clients.metrics.scopes=["admin"]', "metrics"),
        ("podSecurity.runAsUser=0", "runAsUser"),
        ('valkey.image.digest="latest"', "digest"),
    ],
)
def test_wrong_names_types_and_words_are_refused_by_name(value: str, message: str) -> None:
    done = helm("template", "release", CHART, "--set-json", value)
    assert done.returncode != 0
    assert "schema" in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (['storage={"url": "s3://b", "volume": {"existingClaim": "c"}}'], "no pod would mount the claim c"),
        (["valkey.enabled=false"], "redis.existingSecret"),
        (['workers.cpu.autoscaling={"kind": "hpa"}'], "workers.cpu.autoscaling.min is 0"),
        (['workers.cpu.autoscaling={"kind": "keda", "min": 9}'], "min 9 is more than max 4"),
        (['workers.cpu.models=["large"]'], "large is not among models (dovetail-nano-2, "),
        (['workers.cpu.models=["bicubic"]'], "no pool of workers has dovetail-nano-2"),
        (['workers.cpu.only=["segment"]'], "no pool takes plan"),
        (['workers.cpu.only=["segment", "plan"]'], "no pool takes join"),
        (['workers.cpu.only=["join", "plan"]'], "no pool takes segment"),
        (
            ['workers={"cpu": {"only": ["plan", "join"], "gpu": {"count": 1}}, "gpu": {}}'],
            "workers.cpu.gpu.count is 1, but the pool takes only plan and join, which uses no GPU",
        ),
        (
            [
                'workers={"cpu": {"only": ["plan", "join"]}, "gpu": {"only": ["segment"], '
                '"models": ["bicubic"]}}'
            ],
            "no pool of workers has dovetail-nano-2",
        ),
        (['weights.pull=[{"source": "https://a/b.safetensors", "name": "b"}]'], "has no sha256"),
        (['weights={"existingClaim": "c", "pull": [{"source": "a/b", "name": "b"}]}'], "read-only"),
        (["ingress.enabled=true"], "ingress.hosts"),
        (["httpRoute.enabled=true"], "httpRoute.parentRefs"),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_a_way_out(values: list[str], message: str) -> None:
    pairs = [part for value in values for part in ("--set-json", value)]
    done = helm("template", "release", CHART, *pairs)
    assert done.returncode != 0
    assert message in done.stderr


def test_schema_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    open_ones = OPEN & schema["definitions"].keys()
    assert open_ones == OPEN

    def check(found: Any, path: str) -> None:
        if isinstance(found, list):
            for item in found:
                check(item, path)
        elif isinstance(found, dict):
            if found.get("type") == "object":
                assert found.get("additionalProperties") is False, path
            for name, item in found.items():
                if not (path == "#/definitions" and name in OPEN):
                    check(item, f"{path}/{name}")

    check(schema, "#")


def test_schema_knows_every_value_and_no_more() -> None:
    """Pools are of the same kind as `worker`; what Helm itself adds is `global`."""
    schema = json.loads((CHART / "values.schema.json").read_text())

    def check(values: Any, found: dict[str, Any], path: str) -> None:
        found = schema["definitions"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found
        properties = found.get("properties")
        if properties is None or path in ("keys.clients.default", "resources"):
            return
        optional = {"claims"} if path.endswith(".resources") else {"global"}
        assert properties.keys() - optional == values.keys() - optional or path.endswith("resources"), path
        for name in values:
            check(values[name], properties[name], f"{path}.{name}".lstrip("."))

    check(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "")


def test_readme_has_the_values_of_the_chart() -> None:
    command = [sys.executable, ROOT / "scripts/helm_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_and_documentation_name_values_that_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    text = (CHART / "README.md").read_text() + (ROOT / "docs/deployment.md").read_text()
    for path in re.findall(r"--set(?:-json)? ([\w.]+)=", text):
        found = values
        for name in path.split("."):
            assert name in found, path
            found = found[name]


def test_a_pool_has_what_all_have_and_what_it_says_itself() -> None:
    manifests = rendered(
        sets=(
            'worker={"env": {"DOVETAIL_ATTENTION": "auto"}, "nodeSelector": {"kind": "video"}}',
            'workers.gpu={"gpu": {"count": 1}, "env": {"DOVETAIL_DTYPE": "float16"}}',
            "workers.cpu.enabled=false",
        )
    )
    (pod,) = (pod for _, pod in pods(manifests) if component(pod) == "worker")
    (worker,) = pod["spec"]["containers"]
    assert pod["spec"]["nodeSelector"] == {"kind": "video"}
    assert worker["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}
    wanted = {"DOVETAIL_ATTENTION": "auto", "DOVETAIL_DTYPE": "float16", "DOVETAIL_DEVICE": "cuda"}
    assert wanted.items() <= environment(worker).items()


def test_a_pool_may_have_some_of_the_models() -> None:
    manifests = rendered(
        sets=('models=["small", "large"]', 'workers.cpu.models=["small"]', "workers.gpu.gpu.count=1")
    )
    models = {
        pod["metadata"]["labels"]["dovetail/pool"]: json.loads(environment(worker)["DOVETAIL_MODELS"])
        for _, pod in pods(manifests)
        if component(pod) == "worker"
        for worker in pod["spec"]["containers"]
    }
    assert models == {"cpu": ["small"], "gpu": ["small", "large"]}


@pytest.mark.parametrize(
    ("pool", "numbers"),
    [
        ({}, ["dovetail_wanted_workers"]),
        ({"only": ["join", "plan", "segment"]}, ["dovetail_wanted_workers"]),
        ({"models": ["large"]}, ['dovetail_wanted_workers_by_model{model="large"}']),
        ({"only": ["segment"]}, ['dovetail_wanted_workers_by_task{task="segment"}']),
        (
            {"only": ["plan", "join"], "models": ["large"]},
            [f'dovetail_wanted_workers_by_task{{task="{task}"}}' for task in ("plan", "join")],
        ),
        (
            {"only": ["segment", "join"], "models": ["house=/models/house", "large"]},
            [
                *(
                    f'dovetail_wanted_segment_workers_by_model{{model="{name}"}}'
                    for name in ("house", "large")
                ),
                'dovetail_wanted_workers_by_task{task="join"}',
            ],
        ),
    ],
)
def test_keda_follows_the_sum_of_the_work_that_a_pool_takes(pool: dict[str, Any], numbers: list[str]) -> None:
    pool = pool | {"autoscaling": {"kind": "keda"}}
    manifests = rendered(
        sets=('models=["house=/models/house", "large"]', f"workers={json.dumps({'cpu': {}, 'own': pool})}")
    )
    (scaled,) = [found for name, found in of_kind(manifests, "ScaledObject").items() if name.endswith("own")]
    triggers = scaled["spec"]["triggers"]
    assert [trigger["metadata"]["valueLocation"] for trigger in triggers] == numbers
    formula = scaled["spec"].get("advanced", {}).get("scalingModifiers", {}).get("formula")
    assert formula == (" + ".join(trigger["name"] for trigger in triggers) if len(numbers) > 1 else None)


def test_a_pool_that_makes_no_segments_has_no_models_and_says_what_it_takes() -> None:
    manifests = rendered(CHART / "ci/gpu-s3-keda.yaml")
    specs = {
        pod["metadata"]["labels"]["dovetail/pool"]: pod["spec"]
        for _, pod in pods(manifests)
        if component(pod) == "worker"
    }
    taken = {
        name: WorkerSettings(only=json.loads(environment(worker)["DOVETAIL_ONLY"])).only
        for name, spec in specs.items()
        for worker in spec["containers"]
    }
    assert taken == {"cutting": ("plan", "join"), "spot": ("segment",), "steady": ("segment",)}
    assert {name for name, spec in specs.items() if "initContainers" in spec} == {"spot", "steady"}
    assert {name for name, spec in specs.items() if "models" in volumes(spec)} == {"spot", "steady"}


def volumes(spec: dict[str, Any]) -> set[str]:
    mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    return mounted


def test_pods_share_a_volume_only_where_there_is_no_bucket() -> None:
    """And then they share one: the API's uploads are the workers' inputs."""
    folder, bucket = rendered(), rendered(sets=('storage.url="s3://videos"',))
    assert of_kind(folder, "PersistentVolumeClaim").keys() == set(mounted_claims(folder))
    assert set(mounted_claims(folder).values()) == {frozenset({"api", "worker"})}
    assert of_kind(bucket, "PersistentVolumeClaim") == {}
    assert mounted_claims(bucket) == {}
    own = rendered(sets=('storage.volume.existingClaim="videos"',))
    assert of_kind(own, "PersistentVolumeClaim") == {}
    assert mounted_claims(own) == {"videos": frozenset({"api", "worker"})}


def mounted_claims(manifests: list[Manifest]) -> dict[str, frozenset[str]]:
    """Claims that pods mount and the chart does not make for each pod: who mounts them."""
    found: dict[str, frozenset[str]] = {}
    for _, pod in pods(manifests):
        for volume in pod["spec"].get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                name = claim["claimName"]
                found[name] = found.get(name, frozenset()) | {component(pod)}
    return found


@pytest.mark.parametrize(
    ("sets", "strategy"),
    [
        ((), "RollingUpdate"),
        (('storage.volume.accessMode="ReadWriteOnce"',), "Recreate"),
        (('storage.volume.accessMode="ReadWriteOnce"', 'storage.url="s3://videos"'), "RollingUpdate"),
    ],
)
def test_api_pods_overlap_at_an_update_unless_they_would_wait_for_one_volume(
    sets: tuple[str, ...], strategy: str
) -> None:
    found = of_kind(rendered(sets=sets), "Deployment")["release-dovetail-api"]["spec"]["strategy"]
    assert found.get("type", "RollingUpdate") == strategy


def test_models_are_pulled_with_their_digests_before_the_worker_starts() -> None:
    pod = of_kind(rendered(CHART / "ci/gpu-s3-keda.yaml"), "Deployment")["release-dovetail-worker-spot"][
        "spec"
    ]
    (pull,) = pod["template"]["spec"]["initContainers"]
    arguments = pull["args"]
    assert arguments[:2] == ["models", "pull"]
    assert re.fullmatch("[0-9a-f]{64}", arguments[arguments.index("--sha256") + 1])
    documented = (ROOT / "docs/cli.md").read_text()
    assert all(f"`{option}`" in documented for option in arguments if option.startswith("--"))


def discovery(manifests: list[Manifest]) -> dict[str, Any]:
    """What a Kubernetes API says of itself, by path: that it has the kinds of these objects."""
    kinds: dict[str, set[str]] = {}
    for manifest in manifests:
        kinds.setdefault(manifest["apiVersion"], set()).add(manifest["kind"])
    versions = [version.split("/") for version in kinds if "/" in version]
    groups = [
        {"name": group, "versions": [{"groupVersion": f"{group}/{version}", "version": version}]}
        for group, version in versions
    ]
    answers: dict[str, Any] = {
        "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for version, names in kinds.items():
        resources = [
            {"name": f"{name.lower()}s", "kind": name, "namespaced": True, "verbs": ["get"]} for name in names
        ]
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        answers[path] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    return answers


class Cluster(BaseHTTPRequestHandler):
    """As much of a Kubernetes API as Helm needs to look a Secret up."""

    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        found = self.answers.get(self.path.partition("?")[0])
        missing = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": "NotFound",
            "code": 404,
        }
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Of a cluster in which an earlier release has made Secrets."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Cluster) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        path.write_text(
            yaml.safe_dump(
                {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
                | {"current-context": "c", "users": [{"name": "u", "user": {}}]}
            )
        )
        yield path
        server.shutdown()


def test_an_upgrade_keeps_secrets_and_makes_those_that_are_new(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = of_kind(rendered(), "Secret")
    kept = {name: first[name] for name in ("release-dovetail-keys", "release-dovetail-valkey")}
    answers = {f"/api/v1/namespaces/video/secrets/{name}": found for name, found in kept.items()}
    monkeypatch.setattr(Cluster, "answers", discovery(rendered()) | answers)
    cluster = ("--dry-run=server", "--is-upgrade", "--disable-openapi-validation", "--kubeconfig", kubeconfig)
    more = ("--set-json", 'keys.clients.second={"scopes": ["jobs:read"]}')
    done = helm("template", "release", CHART, "--namespace", "video", *cluster, *more)
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    second = {name: found["data"] for name, found in of_kind(manifests, "Secret").items()}
    assert second["release-dovetail-valkey"] == kept["release-dovetail-valkey"]["data"]
    new = second["release-dovetail-keys"].pop("second")
    assert second["release-dovetail-keys"] == kept["release-dovetail-keys"]["data"]
    assert base64.b64decode(new).startswith(b"dv_")
