"""Ending together with the process that started this one, also when that one is killed."""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_SECONDS = 1.0


def end_with_parent(parent_pid: int) -> None:
    """Sends this process SIGTERM when its parent is gone."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
