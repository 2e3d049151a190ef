"""Builds the images with this machine's pip configuration.

Usage: python scripts/build_images.py TARGET... [-- DOCKER_ARGUMENT...]

`docker build` alone does it where the default package index is reachable. Here a build sees what pip sees on
this machine: indexes and certificates come as secrets, of which nothing stays in an image, and folders that
the configuration names are served to the build on the loopback.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
_SOURCES = ("index-url", "extra-index-url", "find-links")


def main(arguments: list[str]) -> None:
    targets, _, others = _partition(arguments, "--")
    if not targets:
        sys.exit("usage: python scripts/build_images.py api|worker|all ... [-- docker arguments]")
    settings = pip_settings()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines = ["[global]", "timeout = 180"]
        for name in _SOURCES:
            values = [_reachable(value, stack) for value in settings.get(name, "").split()]
            lines += [f"{name} = {' '.join(values)}"] if values else []
        (folder / "pip.conf").write_text("\n".join(lines) + "\n")
        secrets = ["--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]
        if "cert" in settings:
            secrets += ["--secret", f"id=ca.pem,src={settings['cert']}"]
        for target in targets:
            command = [
                "docker", "build", "--file", "docker/Dockerfile", "--network", "host", *secrets,
                "--target", target, "--tag", f"dovetail-{target}", *others, ".",
            ]  # fmt: skip
            print(shlex.join(command), file=sys.stderr, flush=True)
            subprocess.run(command, cwd=ROOT, env=os.environ | {"DOCKER_BUILDKIT": "1"}, check=True)


def pip_settings() -> dict[str, str]:
    """pip's options on this machine; the environment's come last and win."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pairs = (line.split("=", 1) for line in output.splitlines() if "=" in line)
    found = {key.rsplit(".", 1)[-1]: shlex.split(value)[0] for key, value in pairs if value.strip("'\"")}
    given = {name: os.environ.get("PIP_" + name.upper().replace("-", "_")) for name in (*_SOURCES, "cert")}
    return found | {name: value for name, value in given.items() if value}


def _reachable(place: str, stack: ExitStack) -> str:
    """An address that a build can read: as it is, or a folder served until the stack ends."""
    path = Path(unquote(urlsplit(place).path) if place.startswith("file:") else place)
    if "://" in place and not place.startswith("file:"):
        return place
    # Pages of an index in a folder refer to files beside it.
    root = path.parent if place.startswith("file:") else path
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    return f"http://127.0.0.1:{server.server_port}/{path.relative_to(root)}".removesuffix("/.") + "/"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


def _partition(arguments: list[str], mark: str) -> tuple[list[str], str, list[str]]:
    if mark not in arguments:
        return arguments, "", []
    index = arguments.index(mark)
    return arguments[:index], mark, arguments[index + 1 :]


if __name__ == "__main__":
    main(sys.argv[1:])
