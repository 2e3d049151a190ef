#!/usr/bin/python3
"""Tells Docker whether the container's process works. Usage: dovetail-healthcheck http|port

`http` asks the API's /healthz, `port` only opens the worker's metrics port. Exit code 0 or 1.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request


def main(kind: str) -> None:
    if kind == "http":
        port = os.environ.get("DOVETAIL_PORT", "8000")
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=4).close()
        return
    port = os.environ.get("DOVETAIL_METRICS_PORT", "9100")
    socket.create_connection(("127.0.0.1", int(port)), timeout=4).close()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (OSError, ValueError) as error:
        sys.exit(f"unhealthy: {error}")
