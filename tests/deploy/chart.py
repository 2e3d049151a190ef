"""Helm's view of deploy/helm/dovetail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/dovetail"
INSTALLATIONS = sorted((CHART / "ci").glob("*.yaml"))
NAMESPACE = "video"
# Where scripts/install_helm.sh puts it.
PATH = f"{os.environ['PATH']}:{Path(sys.executable).parent}:{ROOT / '.venv/bin'}"

Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("helm", path=PATH)
    assert program is not None, "scripts/install_helm.sh installs Helm"
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@cache
def rendered(values: Path | None = None, *, sets: tuple[str, ...] = ()) -> list[Manifest]:
    """The objects of an installation.

    Args:
        values: File of values; None for the chart's own.
        sets: "path=value", value as JSON.

    Raises:
        AssertionError: With what Helm says, if it refuses them.
    """
    files = () if values is None else ("-f", values)
    pairs = [part for pair in sets for part in ("--set-json", pair)]
    done = helm("template", "release", CHART, "--namespace", NAMESPACE, *files, *pairs)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By name."""
    return {found["metadata"]["name"]: found for found in manifests if found["kind"] == kind}


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Names and pod templates: of Deployments, StatefulSets and tests."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["metadata"]["name"], manifest
        elif manifest["kind"] in ("Deployment", "StatefulSet"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    """Init containers too."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    """Variables with values of their own, not those from Secrets."""
    return {item["name"]: item["value"] for item in container.get("env", []) if "value" in item}


def component(pod: Manifest) -> str:
    """api, worker, valkey or test."""
    label: str = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    return label
