"""A cluster on paper: pods that take time to start and to work, and an autoscaler that follows the gauge.

Time passes as fast as it can be computed, but store and queue are the real ones: pods take messages, hold
leases, plan, publish and join by the scripts that workers use.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from benchmarks.keda_rules import Pool, Scaler
from benchmarks.made_jobs import FRAME_RATE, made_spec
from jobs.messages import Delivery
from jobs.queue import JOIN, PLAN, SEGMENT, TASK_KINDS, JobQueue, TaskId, task_of, tasks_for
from jobs.records import FinishedSegment, OutputInfo
from jobs.store import JobStore
from service.system.wanted import WantedWorkers, count_wanted_workers

_LONG = timedelta(days=1)
_SEGMENT_SECONDS = 10


@dataclass(frozen=True)
class Video:
    """What somebody submits: when, who, which model, how long it plays."""

    at: float
    owner: str
    model: str
    seconds: float


@dataclass
class Pod:
    """One worker."""

    pool: Pool
    ready_at: float
    task: TaskId | None = None
    is_draining: bool = False
    idle_since: float = 0.0


@dataclass(frozen=True)
class Sample:
    """A pool at one moment: work by the gauge, pods that are wanted, that are there, and that work."""

    at: float
    wanted: int
    replicas: int
    pods: int
    busy: int


class Cluster:
    """Runs videos through pools of workers.

    Args:
        store: Empty.
        queue: Empty.
        pools: Whose names differ.
        models: That jobs may name.

    Attributes:
        samples: Of each pool, by its name.
        idle_seconds: Of pods that were ready and had nothing to do, by the pool's name.
        busy_seconds: Of the others.
        latencies: Seconds from each video's submission to its end, in the order of their ends.
    """

    def __init__(
        self, store: JobStore, queue: JobQueue, pools: Sequence[Pool], *, models: Sequence[str]
    ) -> None:
        self._store, self._queue, self._models = store, queue, tuple(models)
        self._scalers = [Scaler(pool) for pool in pools]
        self._pods: list[Pod] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self._submitted: dict[str, Video] = {}
        self.samples: dict[str, list[Sample]] = {pool.name: [] for pool in pools}
        self.idle_seconds = dict.fromkeys(self.samples, 0.0)
        self.busy_seconds = dict.fromkeys(self.samples, 0.0)
        self.latencies: list[tuple[Video, float]] = []

    def run(self, videos: Sequence[Video]) -> None:
        """Until all are done and no pod is left that may go."""
        for video in videos:
            self._at(video.at, partial(self._submit, video))
        self._at(0, self._scale)
        num_left = len(videos)
        while self._events and (num_left > len(self.latencies) or self._pods):
            self._now, _, act = heapq.heappop(self._events)
            act()
            self._hand_out()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def _submit(self, video: Video) -> None:
        spec = made_spec(video.owner, model=video.model, seconds=video.seconds)
        self._submitted[spec.id] = video
        self._store.create(spec, max_waiting=10_000)
        self._queue.enqueue(spec, PLAN)

    def _scale(self) -> None:
        wanted = count_wanted_workers(self._store, self._models, segment_seconds=_SEGMENT_SECONDS)
        for scaler in self._scalers:
            pool, before = scaler.pool, scaler.replicas
            number = _work_of(pool, wanted)
            change = scaler.decide(self._now, number) - before
            for _ in range(change):
                self._pods.append(Pod(pool, ready_at=self._now + pool.start_seconds))
                self._at(self._now + pool.start_seconds, lambda: None)
            for _ in range(-change):
                self._end_one(pool)
            pods = [pod for pod in self._pods if pod.pool is pool]
            busy = sum(pod.task is not None for pod in pods)
            self.samples[pool.name].append(Sample(self._now, number, scaler.replicas, len(pods), busy))
        self._at(self._now + self._scalers[0].pool.autoscaling["pollingInterval"], self._scale)

    def _end_one(self, pool: Pool) -> None:
        """Kubernetes prefers pods that are not ready, then young ones; it does not know which are busy."""
        staying = [pod for pod in self._pods if pod.pool is pool and not pod.is_draining]
        pod = max(staying, key=lambda pod: pod.ready_at)
        pod.is_draining = True
        if pod.task is None:
            self._remove(pod)

    def _remove(self, pod: Pod) -> None:
        if pod.ready_at <= self._now and pod.task is None:
            self.idle_seconds[pod.pool.name] += self._now - max(pod.idle_since, pod.ready_at)
        self._pods.remove(pod)

    def _hand_out(self) -> None:
        for pod in list(self._pods):
            if pod.task is None and pod.ready_at <= self._now:
                found = self._queue.messages.take(tasks_for(pod.pool.models, pod.pool.only), hold=_LONG)
                if isinstance(found, Delivery):
                    self._begin(pod, found)

    def _begin(self, pod: Pod, delivery: Delivery) -> None:
        task, token = task_of(delivery.id), delivery.receipt
        beginning = self._store.begin(
            task.job_id,
            task.task,
            token,
            ttl=_LONG,
            max_attempts=4,
            worker="pod",
            num_workers=len(self._pods),
        )
        assert beginning.outcome == "ok", beginning
        seconds = pod.pool.task_seconds[task.kind]
        name = pod.pool.name
        self.idle_seconds[name] += self._now - max(pod.idle_since, pod.ready_at)
        self.busy_seconds[name] += seconds
        pod.task = task
        self._at(self._now + seconds, lambda: self._finish(pod, delivery, task, token))

    def _finish(self, pod: Pod, delivery: Delivery, task: TaskId, token: str) -> None:
        work: dict[str, Callable[[TaskId, str], None]]
        work = {PLAN: self._plan, SEGMENT: self._publish, JOIN: self._join}
        if task.kind in pod.pool.only:  # else it has decided the job
            work[task.kind](task, token)
        if task.kind != JOIN:
            self._store.end(
                task.job_id, task.task, token, "finished", worker="pod", cancelled_ttl=timedelta(days=1)
            )
        self._queue.messages.finish(delivery)
        spec = self._store.get(task.job_id).spec
        steps = self._store.advance(task.job_id, window=self._window)
        for index in steps.segments:
            self._queue.enqueue(spec, f"{SEGMENT}:{index}")
        if steps.is_planning_due:
            self._queue.enqueue(spec, PLAN, is_decided=True)
        if steps.is_join_due:
            self._queue.enqueue(spec, JOIN)
        pod.task, pod.idle_since = None, self._now
        if pod.is_draining:
            self._remove(pod)

    @property
    def _window(self) -> int:
        makers = [pod for pod in self._pods if not pod.is_draining and SEGMENT in pod.pool.only]
        return max(2, 2 * len(makers))

    def _plan(self, task: TaskId, token: str) -> None:
        job = self._store.get(task.job_id)
        assert job.total_frames is not None
        length = _SEGMENT_SECONDS * FRAME_RATE
        number = math.ceil(job.total_frames / length)
        stop = min(number, job.num_segments + 2 * self._window)
        self._store.append_plan(
            job.id,
            token,
            first_index=job.num_segments,
            segments=[f'{{"index": {index}}}' for index in range(job.num_segments, stop)],
            is_complete=stop == number,
            total_frames=job.total_frames,
        )

    def _publish(self, task: TaskId, token: str) -> None:
        index = int(task.task.partition(":")[2])
        made = FinishedSegment(
            index=index,
            key=f"{index}-{token}",
            num_frames=_SEGMENT_SECONDS * FRAME_RATE,
            size_bytes=100,
            seconds=1,
            output_pixels=1,
        )
        assert self._store.publish(task.job_id, made, token)

    def _join(self, task: TaskId, token: str) -> None:
        output = OutputInfo(
            job_id=task.job_id,
            container="mp4",
            num_segments=1,
            width=64,
            height=48,
            num_frames=1,
            duration_seconds=1,
            size_bytes=100,
            sha256="00",
            token="0",
        )
        self._store.complete(task.job_id, token, output, ttl=_LONG)
        video = self._submitted[task.job_id]
        self.latencies.append((video, self._now - video.at))


def _work_of(pool: Pool, wanted: WantedWorkers) -> int:
    """As the chart tells KEDA."""
    if set(pool.only) == set(TASK_KINDS):
        return sum(wanted.by_model[model] for model in pool.models)
    return sum(
        sum(wanted.segments_by_model[model] for model in pool.models)
        if kind == SEGMENT
        else wanted.by_task[kind]
        for kind in pool.only
    )


def turns(samples: Sequence[Sample]) -> int:
    """How often a pool began to shrink or to grow: 2 for one that grew and went back."""
    steps = [b.replicas - a.replicas for a, b in itertools.pairwise(samples) if a.replicas != b.replicas]
    grown = [step > 0 for step in steps]
    return sum(a != b for a, b in itertools.pairwise([False, *grown]))
