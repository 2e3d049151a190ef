"""A worker's own numbers for Prometheus. Those of all workers together are the API's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.fleet import WorkerInfo
from workers.tasks.outcomes import Outcomes


class WorkerCollector:
    """Gives the numbers as they are when Prometheus asks.

    Args:
        describe: The worker as it is now.
        outcomes: How its attempts ended.
    """

    def __init__(self, describe: Callable[[], WorkerInfo], outcomes: Outcomes) -> None:
        self._describe, self._outcomes = describe, outcomes

    def collect(self) -> Iterable[Any]:
        """The metrics, for `prometheus_client`."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        worker = self._describe()
        for name, text, value in (
            ("busy", "Whether a task runs.", float(bool(worker.task))),
            ("draining", "Whether it takes no more tasks.", float(worker.is_draining)),
            ("resident_memory_bytes", "Resident memory of the process.", float(worker.host_memory_bytes)),
            ("gpu_memory_used_bytes", "Used memory of its GPU.", float(worker.gpu_memory_used_bytes)),
            ("gpu_memory_total_bytes", "Memory of its GPU.", float(worker.gpu_memory_total_bytes)),
        ):
            yield GaugeMetricFamily(f"dovetail_worker_{name}", text, value=value)
        attempts = CounterMetricFamily(
            "dovetail_worker_attempts", "Attempts at tasks by how they ended.", labels=["task", "outcome"]
        )
        seconds = CounterMetricFamily(
            "dovetail_worker_attempt_seconds", "Time that attempts took.", labels=["task", "outcome"]
        )
        for (task, outcome), (count, total) in self._outcomes.snapshot().items():
            attempts.add_metric([task, outcome], count)
            seconds.add_metric([task, outcome], total)
        yield attempts
        yield seconds


@contextmanager
def served_metrics(port: int, collector: WorkerCollector) -> Iterator[int]:
    """Answers `GET /metrics` while the block runs.

    Args:
        port: 0 takes any free one.
        collector: What to tell.

    Yields:
        The port.

    Raises:
        OSError: If the port is taken.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(port, registry=registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
