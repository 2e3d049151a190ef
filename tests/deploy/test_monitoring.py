"""Alerts and dashboard: by Prometheus' own tools, and a real Prometheus that scrapes a running service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from dovetail_client import Dovetail
from jobs.embedded_redis import free_port
from jobs.fleet import Fleet, WorkerInfo
from jobs.records import JobError
from jobs.store import JobStore
from tests.deploy.chart import PATH

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/alerts/dovetail.yaml"
RULES = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
COMPOSE = ROOT / "deploy/compose"
DASHBOARD = json.loads((ROOT / "deploy/dashboards/dovetail.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
# Where Grafana's image looks, and what may stand there besides what must.
PROVISIONING = "/etc/grafana/provisioning"
SOURCE_FIELDS = {"orgId", "uid", "url", "isDefault", "jsonData", "secureJsonData", "version", "editable"}
PROVIDER_FIELDS = {
    "orgId",
    "folder",
    "folderUid",
    "disableDeletion",
    "updateIntervalSeconds",
    "allowUiUpdates",
}
# This machine has no GPU, so a worker with one is made up.
GPU_WORKER = WorkerInfo(
    id="gpu",
    host="gpu",
    pid=1,
    device="cuda:0",
    gpu_memory_used_bytes=1 << 30,
    gpu_memory_total_bytes=1 << 37,
)

needs_prometheus = pytest.mark.skipif(
    os.environ.get("DOVETAIL_REQUIRE_DOCKER") != "1" and shutil.which("prometheus", path=PATH) is None,
    reason="Prometheus is missing; scripts/install_prometheus.sh unpacks it",
)


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, f"{name} is missing"
    return found


@needs_prometheus
def test_each_alert_comes_when_it_should_and_on_no_ordinary_day() -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", "dovetail_test.yaml"],
        cwd=ALERTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (ALERTS.parent / "dovetail_test.yaml").read_text()
    assert all(rule["alert"] in tested for rule in RULES)


def test_each_alert_has_its_page_in_the_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.M)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_alerts_and_dashboard_use_metrics_that_are_documented() -> None:
    documented = set(re.findall(r"^\| `(dovetail_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.M))
    text = json.dumps([QUERIES, [rule["expr"] for rule in RULES]])
    for name in set(re.findall(r"dovetail_\w+", text)):
        assert name in documented or re.sub(r"_(sum|count|bucket)$", "", name) in documented


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[str, Fleet]]:
    """Address of a Prometheus, and the workers of the service it scrapes, which has jobs done and failed."""
    environment = {"DOVETAIL_MODELS": '["bicubic"]'}
    with Installation(tmp_path / "service", num_workers=1, environment=environment) as service:
        with Dovetail(service.url) as client:
            clip = make_clip(tmp_path / "clip.mp4", seconds=2)
            assert client.wait(client.submit(clip).id, timeout=60).status == "completed"
            # Before a worker can have done it.
            error = JobError(code="no_frames", message="there was nothing to see")
            JobStore(service.redis_client()).fail(client.submit(clip).id, error, ttl=timedelta(hours=1))
        config = yaml.safe_load((ROOT / "deploy/compose/monitoring/prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ALERTS)]
        scrape = config["scrape_configs"][0]
        del scrape["authorization"], config["scrape_configs"][1:]
        scrape["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={tmp_path / 'prometheus.yaml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(f"http://{address}")
            yield f"http://{address}", service.fleet()
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(address: str) -> None:
    """Until Prometheus has read its storage: before that it refuses connections, and then queries (503)."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(f"{address}/-/ready").is_success:
                return
        assert time.monotonic() < deadline, "Prometheus does not get ready"
        time.sleep(0.2)


def ask(address: str, query: str) -> list[Any]:
    """Series of a query.

    Raises:
        AssertionError: If Prometheus does not understand it.
    """
    answer = httpx.get(f"{address}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", answer
    found: list[Any] = answer["data"]["result"]
    return found


@needs_prometheus
@pytest.mark.slow
def test_every_query_of_the_dashboard_gives_data(prometheus: tuple[str, Fleet]) -> None:
    address, fleet = prometheus
    waiting = dict.fromkeys(expr for _, expr in QUERIES)
    deadline = time.monotonic() + 60
    # Rates need two scrapes.
    while waiting := {expr: None for expr in waiting if not ask(address, expr)}:
        assert time.monotonic() < deadline, list(waiting)
        fleet.report(GPU_WORKER)
        time.sleep(0.5)
    assert len(ask(address, 'dovetail_jobs{state="completed"} == 1')) == 1
    rules = httpx.get(f"{address}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert {rule["name"]: rule["state"] for rule in rules} == {rule["alert"]: "inactive" for rule in RULES}


def test_grafana_finds_its_source_and_dashboards_where_compose_puts_them() -> None:
    """By what Grafana documents of provisioning: names of fields, those it requires, and folders."""
    services = yaml.safe_load((COMPOSE / "monitoring.yaml").read_text())["services"]
    mounts = {
        target: (COMPOSE / source).resolve()
        for source, target, _ in (volume.split(":") for volume in services["grafana"]["volumes"])
    }
    (sources_file,) = (mounts[path] for path in mounts if path.startswith(f"{PROVISIONING}/datasources/"))
    sources = yaml.safe_load(sources_file.read_text())
    assert sources.keys() <= {"apiVersion", "datasources", "deleteDatasources", "prune"}
    (source,) = sources["datasources"]
    assert {"name", "type", "access"} <= source.keys() <= {*SOURCE_FIELDS, "name", "type", "access"}
    host, port = source["url"].removeprefix("http://").split(":")
    assert services[host]["ports"][0].endswith(f":{port}")
    assert set(services["grafana"]["networks"]) & set(services[host]["networks"])

    (providers_file,) = (mounts[path] for path in mounts if path.startswith(f"{PROVISIONING}/dashboards/"))
    providers = yaml.safe_load(providers_file.read_text())
    assert providers.keys() == {"apiVersion", "providers"}
    (provider,) = providers["providers"]
    assert {"name", "type", "options"} <= provider.keys() <= {*PROVIDER_FIELDS, "name", "type", "options"}
    assert provider["type"] == "file"
    dashboards = mounts[provider["options"]["path"]].glob("*.json")
    assert ROOT / "deploy/dashboards/dovetail.json" in dashboards

    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    for panel in PANELS:
        assert panel["datasource"] == {"type": source["type"], "uid": f"${{{variable['name']}}}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
