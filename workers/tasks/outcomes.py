"""How a worker's attempts ended, and how long they took."""

from __future__ import annotations

import threading


class Outcomes:
    """Counts attempts by task ("plan", "segment", "join") and outcome. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], tuple[int, float]] = {}

    def add(self, task: str, outcome: str, seconds: float) -> None:
        """Counts one.

        Args:
            task: Such as "segment:7".
            outcome: "finished", "lost", "drained", "fail", "retry", "wait" or "rise".
            seconds: How long it took.
        """
        key = (task.partition(":")[0], outcome)
        with self._lock:
            count, total = self._counts.get(key, (0, 0.0))
            self._counts[key] = (count + 1, total + seconds)

    def snapshot(self) -> dict[tuple[str, str], tuple[int, float]]:
        """(task, outcome) to (number, seconds) so far."""
        with self._lock:
            return dict(self._counts)
