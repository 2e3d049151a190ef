"""A worker's own numbers for Prometheus. Those of all workers together are the API's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from jobs.fleet import WorkerInfo
from media.sandbox import PROTECTIONS
from workers.tasks.outcomes import Outcomes


class WorkerCollector:
    """Gives the numbers as they are when Prometheus asks.

    Args:
        describe: The worker as it is now.
        outcomes: How its attempts ended.
        missing: Protections that the processes lack in which it reads inputs.
    """

    def __init__(
        self,
        describe: Callable[[], WorkerInfo],
        outcomes: Outcomes,
        missing: Callable[[], Collection[str]],
    ) -> None:
        self._describe, self._outcomes, self._missing = describe, outcomes, missing

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
        protections = GaugeMetricFamily(
            "dovetail_worker_sandbox_protection",
            "Whether the processes that read inputs have this protection.",
            labels=["protection"],
        )
        missing = self._missing()
        for name in PROTECTIONS:
            protections.add_metric([name], float(name not in missing))
        yield protections
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
