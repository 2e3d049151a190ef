"""Helm's view of deploy/helm/dovetail."""

from __future__ import annotations

import base64
import os
import re
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
# Where scripts/install_test_tools.sh puts programs.
PATH = f"{os.environ['PATH']}:{Path(sys.executable).parent}:{ROOT / '.venv/bin'}"

Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("helm", path=PATH)
    assert program is not None, "scripts/install_helm.sh installs Helm"
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@cache
def rendered_text(values: Path | None = None, *, sets: tuple[str, ...] = ()) -> str:
    """The objects of an installation, as Helm writes them.

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
    return done.stdout


@cache
def rendered(values: Path | None = None, *, sets: tuple[str, ...] = ()) -> list[Manifest]:
    """The objects of an installation, of `rendered_text`."""
    return [manifest for manifest in yaml.safe_load_all(rendered_text(values, sets=sets)) if manifest]


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


def secret(manifests: list[Manifest], name: str, key: str) -> str:
    """What a Secret of the chart holds."""
    return base64.b64decode(of_kind(manifests, "Secret")[name]["data"][key]).decode()


def resolved(manifests: list[Manifest], container: Manifest) -> tuple[dict[str, str], list[str]]:
    """Environment and arguments of a container, as a kubelet makes them of Secrets and $(NAME)."""
    variables: dict[str, str] = {}

    def expand(text: str) -> str:
        return re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], text)

    for item in container["env"]:
        source = item.get("valueFrom", {}).get("secretKeyRef")
        text = item["value"] if source is None else secret(manifests, source["name"], source["key"])
        variables[item["name"]] = expand(text)
    return variables, [expand(text) for text in container["args"]]


def projected_files(manifests: list[Manifest], pod: Manifest, volume: str) -> dict[str, str]:
    """Names and contents of the files that a volume has from Secrets."""
    return {
        item["path"]: secret(manifests, source["secret"]["name"], item["key"])
        for found in pod["spec"]["volumes"]
        if found["name"] == volume
        for source in found.get("projected", {}).get("sources", [])
        for item in source["secret"]["items"]
    }
