"""The worker process: takes one task at a time from the queue until it is told to stop.

run_worker -> workers.consumer, in a thread -> workers.tasks.running
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import redis
import structlog

from jobs.connections import impatient_client, patient_client, refuse_cluster
from jobs.errors import StoreUnavailableError
from jobs.fleet import Fleet
from jobs.housekeeping import housekeeping
from jobs.messages import Delivery
from jobs.queue import JOIN, PLAN, SEGMENT, JobQueue, task_of, tasks_for
from jobs.settings import WorkerSettings
from jobs.storage import Storage
from jobs.store import JobStore
from media.sandbox import READ_MODULES, Sandbox
from pipelines.freed_memory import keep_freed_memory
from pipelines.loaders import load_model
from pipelines.model import Model
from workers.consumer import Consumer
from workers.fleet_report import FleetReporter
from workers.held import HeldMessage, HeldPlace
from workers.input_cache import InputCache
from workers.keeper import Keeper
from workers.metrics import WorkerCollector, served_metrics
from workers.model_shelf import ModelShelf
from workers.scratch import own_folder, scratch_base
from workers.tasks.attempts import Attempt
from workers.tasks.context import WorkerContext
from workers.tasks.inputs import InputShelf
from workers.tasks.join import join
from workers.tasks.plan import plan
from workers.tasks.running import Work, run_task
from workers.tasks.segment import segment
from workers.tasks.still import join_still, plan_still, segment_still

_log: Any = structlog.get_logger(__name__)

_WORK: dict[str, Work] = {PLAN: plan, SEGMENT: segment, JOIN: join}
_WORK_ON_STILLS: dict[str, Work] = {PLAN: plan_still, SEGMENT: segment_still, JOIN: join_still}
_LOOK_SECONDS = 0.05
# A chunk of a large picture takes a GPU tens of seconds; a task is asked between frames.
_LAST_SECONDS = 30.0
_SHUTDOWN_SECONDS = 10.0


def run_worker(
    settings: WorkerSettings, *, load: Callable[..., Model] = load_model, sandbox: Sandbox | None = None
) -> None:
    """Works until SIGTERM or SIGINT, then finishes its task and returns. A second signal ends the task too.

    Args:
        settings: Of the process.
        load: Loads models; another one is for tests.
        sandbox: To read inputs in; None makes one of its own.

    Raises:
        PipelineError: If a model cannot be loaded.
        StorageError: If the storage's address is none.
        OSError: If the work folder cannot be used.
    """
    keep_freed_memory()
    signals = _Signals()
    with running_worker(settings, load=load, sandbox=sandbox, should_hurry=lambda: signals.count > 1):
        while not signals.count:
            time.sleep(_LOOK_SECONDS)
    _log.info("worker.stopped")


@contextmanager
def running_worker(
    settings: WorkerSettings,
    *,
    load: Callable[..., Model] = load_model,
    sandbox: Sandbox | None = None,
    keeper: Keeper | None = None,
    should_hurry: Callable[[], bool] = lambda: False,
) -> Iterator[WorkerContext]:
    """A worker in threads of this process. At the end of the `with` block it finishes its task.

    Args:
        settings: Of the worker.
        load: Loads models.
        sandbox: To read inputs in; None makes one of its own.
        keeper: Of what it holds; None makes one of its own.
        should_hurry: Asked while it finishes its task: whether to give it back instead.

    Raises:
        PipelineError: If a model cannot be loaded.
        StorageError: If the storage's address is none.
        OSError: If the work folder cannot be used.
    """
    with ExitStack() as stack:
        if sandbox is None:
            sandbox = stack.enter_context(make_sandbox())
        if keeper is None:
            keeper = stack.enter_context(Keeper(settings.stall_timeout))
        context = _make_context(settings, load, sandbox, keeper, stack)
        _tell_if_away(settings)
        models = context.models.describe()
        context.fleet.offer(models)
        reporter = FleetReporter(
            Fleet(stack.enter_context(impatient_client(settings.redis_url))),
            context.worker_id,
            context.models.device,
            only=settings.only,
            models=context.models.names,
            stopping=context.stopping,
            task=lambda: context.task,
        )
        stack.enter_context(keeper.keeping(HeldPlace(settings.redis_url, context.worker_id)))
        stack.enter_context(reporter)
        if settings.metrics_port:
            collector = WorkerCollector(reporter.describe, context.outcomes, sandbox.missing)
            stack.enter_context(served_metrics(settings.metrics_port, collector))
        stack.enter_context(housekeeping(context.store, context.queue, context.storage, context.settings))
        consumer = Consumer(
            context.queue.messages,
            tasks_for(context.models.offered, settings.only),
            partial(_work_off, context),
            hold=settings.heartbeat_timeout,
            keeping=lambda delivery: keeper.keeping(
                HeldMessage.of(
                    delivery, url=settings.effective_queue_redis_url, hold=settings.heartbeat_timeout
                )
            ),
        )
        consumer.start()
        names = [model.name for model in models]
        _log.info("worker.ready", worker=context.worker_id, only=settings.only, models=names)
        try:
            yield context
        finally:
            _drain(context, consumer, should_hurry)


def _tell_if_away(settings: WorkerSettings) -> None:
    """Says why nothing happens where Redis does not answer yet; the worker's own clients wait for it.

    Raises:
        RedisClusterError: If it is a cluster.
    """
    for url in (settings.redis_url, settings.effective_queue_redis_url):
        try:
            refuse_cluster(url)
        except (StoreUnavailableError, redis.RedisError) as error:
            _log.warning("worker.waits_for_redis", error=str(error))


def make_sandbox() -> Sandbox:
    """A sandbox in which all that workers do to inputs is ready to run."""
    return Sandbox(preload=(*READ_MODULES, "workers.tasks.sound"))


def _make_context(
    settings: WorkerSettings,
    load: Callable[..., Model],
    sandbox: Sandbox,
    keeper: Keeper,
    stack: ExitStack,
) -> WorkerContext:
    store_client = stack.enter_context(patient_client(settings.redis_url))
    queue_client = stack.enter_context(patient_client(settings.effective_queue_redis_url))
    storage = Storage(settings.effective_storage_url, min_free_bytes=settings.min_free_bytes)
    work_dir = stack.enter_context(own_folder(settings.work_dir))
    cache = InputCache(
        settings.input_cache_dir or scratch_base(settings.work_dir) / "inputs",
        max_bytes=0 if storage.folder else settings.input_cache_bytes,
        min_free_bytes=settings.min_free_bytes,
    )
    inputs = InputShelf(storage, sandbox, settings, cache)
    stack.callback(inputs.clear)
    return WorkerContext(
        settings=settings,
        worker_id=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        store=JobStore(store_client),
        queue=JobQueue(queue_client),
        storage=storage,
        fleet=Fleet(store_client),
        models=ModelShelf(
            settings.model_sources if settings.makes_segments else {},
            load=with_settings(load, settings),
            allow_standins=settings.allow_standins and settings.makes_segments,
        ),
        inputs=inputs,
        sandbox=sandbox,
        keeper=keeper,
        work_dir=work_dir,
    )


def with_settings(load: Callable[..., Model], settings: WorkerSettings) -> Callable[[str], Model]:
    """Loads a model by its name as the settings have it: where, how precise, with which kernels."""
    return partial(
        load,
        device=settings.device,
        dtype=settings.dtype,
        attention_backend=settings.attention,
        quantize=settings.quantize,
        use_compile=settings.use_compile,
        use_offload=settings.use_offload,
        models_dir=settings.models_dir,
    )


def _work_off(context: WorkerContext, delivery: Delivery) -> None:
    task = task_of(delivery.id)

    def work(attempt: Attempt) -> None:
        (_WORK_ON_STILLS if attempt.job.spec.gives_picture else _WORK)[task.kind](attempt)

    run_task(context, task, work)


def _drain(context: WorkerContext, consumer: Consumer, should_hurry: Callable[[], bool]) -> None:
    """Takes no more tasks, gives the running one its time, and gives back what was not begun."""
    context.stopping.drain(within_seconds=context.settings.drain_seconds)
    consumer.close()
    _log.info("worker.draining", task=context.task and context.task.task)
    if not _wait_until_idle(consumer, context.settings.drain_seconds, should_hurry):
        context.stopping.stop_now()
        _wait_until_idle(consumer, _LAST_SECONDS, lambda: False)
    consumer.stop(timeout=_SHUTDOWN_SECONDS)


def _wait_until_idle(consumer: Consumer, seconds: float, should_stop: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not consumer.is_idle:
        if time.monotonic() >= deadline or should_stop():
            return False
        time.sleep(_LOOK_SECONDS)
    return True


class _Signals:
    """Counts SIGTERM and SIGINT. The handlers do nothing else: an event's lock may be held by the code that
    they interrupt."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: object) -> None:
        self.count += 1
