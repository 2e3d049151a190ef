"""Metrics that are read from Redis when Prometheus asks, the same from every API process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector
from redis import RedisError

from jobs.errors import JobsError
from jobs.fleet import WorkerInfo, count_takers
from jobs.queue import TASK_KINDS
from media.errors import SandboxError
from media.sandbox import PROTECTIONS, shared_sandbox
from pipelines.planning.host import host_memory
from service.context import ServiceContext
from service.deliveries import task as deliveries
from service.models.catalogue import known_models
from service.system.wanted import count_wanted_workers
from service.webhooks import outbox

_log = structlog.get_logger(__name__)


class StoreCollector(Collector):
    """Reads the installation's numbers.

    Args:
        context: Of the process.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    def describe(self) -> list[Metric]:
        """Nothing: so that registering does not ask Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics; without Redis only that it is away, and what needs none."""
        groups: list[Callable[[], list[Metric]]] = [
            self._queue,
            self._jobs,
            self._sending,
            self._work,
            self._workers,
        ]
        found: list[Metric] = []
        is_up = True
        try:
            for group in groups:
                found += group()
        except (JobsError, RedisError) as error:
            _log.warning("metrics.store_away", error=str(error))
            found, is_up = [], False
        yield _gauge("dovetail_store_up", "Whether Redis answered this scrape.", float(is_up))
        yield from found
        yield from self._sandbox()
        yield from self._host()

    def _queue(self) -> list[Metric]:
        depth = GaugeMetricFamily(
            "dovetail_queue_messages",
            "Tasks in the queue: waiting for a worker, or given to one.",
            labels=["priority", "state"],
        )
        for priority, (waiting, given) in self._context.queue.depths().items():
            depth.add_metric([priority, "waiting"], waiting)
            depth.add_metric([priority, "given"], given)
        store = self._context.store
        jobs = GaugeMetricFamily(
            "dovetail_waiting_jobs", "Jobs that no worker has begun.", labels=["priority"]
        )
        for priority, count in store.num_waiting().items():
            jobs.add_metric([priority], count)
        age = GaugeMetricFamily(
            "dovetail_oldest_waiting_job_seconds",
            "Age of the oldest job that no worker has begun; 0 where none waits.",
            labels=["priority"],
        )
        for priority, seconds in store.oldest_waiting_seconds().items():
            age.add_metric([priority], seconds)
        return [depth, jobs, age]

    def _jobs(self) -> list[Metric]:
        store = self._context.store
        by_state = GaugeMetricFamily("dovetail_jobs", "Jobs that are kept, by state.", labels=["state"])
        for state, count in store.counts().items():
            by_state.add_metric([state], count)
        finished = CounterMetricFamily(
            "dovetail_jobs_finished", "Jobs that have reached a final state.", labels=["outcome"]
        )
        for state, count in store.num_finished().items():
            finished.add_metric([state], count)
        failed = _counters(
            "dovetail_job_errors",
            "Jobs that have failed, by the code of their error.",
            "code",
            store.num_failed(),
        )
        return [by_state, finished, failed, *self._wanted()]

    def _sending(self) -> list[Metric]:
        store = self._context.store
        queues = {"webhook": outbox.QUEUE, "delivery": deliveries.QUEUE}
        depths = self._context.queue.messages.depths(list(queues.values()))
        under_way = {kind: sum(depth) for kind, depth in zip(queues, depths, strict=True)}
        return [
            _gauges(
                "dovetail_sending",
                "What is still to be sent, or sent again, to customers.",
                "kind",
                under_way,
            ),
            _counters(
                "dovetail_webhooks",
                "Webhooks that came to an end.",
                "outcome",
                dict.fromkeys(("delivered", "failed", "disabled"), 0) | store.num_webhooks_ended(),
            ),
            _counters(
                "dovetail_deliveries",
                "Deliveries of results that came to an end.",
                "outcome",
                dict.fromkeys(("delivered", "failed"), 0) | store.num_deliveries_ended(),
            ),
        ]

    def _wanted(self) -> list[Metric]:
        found = count_wanted_workers(
            self._context.store,
            [model.name for model in known_models(self._context)],
            segment_seconds=self._context.settings.segment_seconds,
        )
        text = "Workers that unfinished jobs could keep busy at once."
        return [
            _gauge("dovetail_wanted_workers", text, found.total),
            _gauges(
                "dovetail_wanted_workers_by_model",
                "Workers with a model that its unfinished jobs could keep busy at once.",
                "model",
                found.by_model,
            ),
            _gauges(
                "dovetail_wanted_workers_by_task",
                "Workers of one kind of tasks that unfinished jobs could keep busy at once.",
                "task",
                found.by_task,
            ),
            _gauges(
                "dovetail_wanted_segment_workers_by_model",
                "Workers that make segments with a model that its unfinished jobs could keep busy at once.",
                "model",
                found.segments_by_model,
            ),
        ]

    def _work(self) -> list[Metric]:
        fleet = self._context.fleet
        totals = fleet.totals()
        stages = SummaryMetricFamily(
            "dovetail_segment_stage_seconds",
            "Time that segments spent in each stage of their making; stages overlap.",
            labels=["stage"],
        )
        for stage, (seconds, count) in fleet.stage_seconds().items():
            stages.add_metric([stage], count, seconds)
        speed = GaugeMetricFamily(
            "dovetail_model_megapixels_per_second",
            "Output megapixels per second of one worker, smoothed over the last segments.",
            labels=["model"],
        )
        for model, value in fleet.speeds().items():
            speed.add_metric([model], value)
        counters = [
            CounterMetricFamily(f"dovetail_{name}", description, value=totals.get(key, 0))
            for name, key, description in (
                ("segments", "segments", "Segments that were finished."),
                ("output_frames", "frames", "Frames of finished segments."),
                ("output_megapixels", "output_megapixels", "Megapixels of finished segments."),
            )
        ]
        return [*counters, stages, speed]

    def _workers(self) -> list[Metric]:
        workers = self._context.fleet.workers()
        states = GaugeMetricFamily(
            "dovetail_workers",
            "Workers that are alive: idle, busy, or draining (takes no more, perhaps still busy).",
            labels=["state"],
        )
        for state in ("idle", "busy", "draining"):
            states.add_metric([state], sum(_state_of(worker) == state for worker in workers))
        takers = count_takers(workers)
        by_task = _gauges(
            "dovetail_workers_by_task",
            "Workers that are alive and take a kind of tasks.",
            "task",
            {kind: takers[kind] for kind in TASK_KINDS},
        )
        memory = [
            GaugeMetricFamily(f"dovetail_worker_{name}_bytes", description, labels=["worker", "device"])
            for name, description in (
                ("gpu_memory_used", "Memory in use on a worker's GPU, by all processes."),
                ("gpu_memory_total", "Memory of a worker's GPU."),
                ("resident_memory", "Host memory of a worker's process."),
            )
        ]
        used, total, resident = memory
        for worker in workers:
            labels = [worker.id, worker.device]
            resident.add_metric(labels, worker.host_memory_bytes)
            if worker.gpu_memory_total_bytes:
                used.add_metric(labels, worker.gpu_memory_used_bytes)
                total.add_metric(labels, worker.gpu_memory_total_bytes)
        return [states, by_task, *memory]

    def _sandbox(self) -> Iterator[Metric]:
        try:
            missing = shared_sandbox("probe").missing()
        except SandboxError as error:
            _log.warning("metrics.no_sandbox", error=str(error))
            return
        protections = GaugeMetricFamily(
            "dovetail_sandbox_protection",
            "Whether the processes in which the API reads uploads have this protection.",
            labels=["protection"],
        )
        for name in PROTECTIONS:
            protections.add_metric([name], float(name not in missing))
        yield protections

    def _host(self) -> Iterator[Metric]:
        memory = host_memory()
        yield _gauge(
            "dovetail_host_memory_total_bytes",
            "Memory of the API's machine, or of its container.",
            memory.total_bytes,
        )
        yield _gauge(
            "dovetail_host_memory_available_bytes",
            "Memory of the API's machine, or of its container, that is left.",
            memory.available_bytes,
        )
        folder = self._context.storage.folder
        if folder is not None:
            yield _gauge(
                "dovetail_storage_free_bytes",
                "Room on the disk of a storage that is a folder.",
                shutil.disk_usage(folder).free,
            )


def _gauge(name: str, description: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, description, value=value)


def _gauges(name: str, description: str, label: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, description, labels=[label])
    for text, value in values.items():
        family.add_metric([text], value)
    return family


def _counters(name: str, description: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, description, labels=[label])
    for text, value in values.items():
        family.add_metric([text], value)
    return family


def _state_of(worker: WorkerInfo) -> str:
    if worker.is_draining:
        return "draining"
    return "busy" if worker.task else "idle"
