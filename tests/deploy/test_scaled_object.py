"""What KEDA makes of the chart's ScaledObjects in front of a real API, beside what the queue itself holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.api_keys import Scope
from jobs.messages import Delivery
from jobs.options import JobOptions
from jobs.queue import PLAN, SEGMENT, TaskId, task_of, tasks_for
from jobs.records import FinishedSegment, Job
from service.context import ServiceContext
from tests.deploy.chart import of_kind, rendered
from tests.service.conftest import Api, api_with_keys, redis_url, settings, valkey
from tests.service.made import INPUT, TOKEN, TTL, begin, end, make_job

__all__ = ["api_with_keys", "redis_url", "settings", "valkey"]

# One pool for each way to ask: of one model, of a sum, and of everything.
_SETS = (
    'models=["bicubic", "lanczos"]',
    'worker.autoscaling={"kind": "keda", "segmentsPerWorker": 3, "max": 4}',
    'workers={"cpu": {"models": ["bicubic"]}, "both": {"models": ["bicubic", "lanczos"]}, "all": {}}',
)


@pytest.fixture
def scaled(helm_program: None) -> dict[str, Any]:
    """Specs of ScaledObjects by the pool's name."""
    found = of_kind(rendered(sets=_SETS), "ScaledObject")
    return {name.removeprefix("release-dovetail-worker-"): item["spec"] for name, item in found.items()}


def value_of(trigger: Mapping[str, Any], api: Api, key: Mapping[str, str]) -> float:
    """Of a trigger, as KEDA's `metrics-api` reads Prometheus' format.

    Raises:
        AssertionError: If there is not exactly one sample; KEDA reports an error then.
    """
    found = trigger["metadata"]
    assert (trigger["type"], found["format"], found["authMode"]) == ("metrics-api", "prometheus", "bearer")
    answer = api.http.get(urlsplit(found["url"]).path, headers=key)
    assert answer.status_code == 200, answer.text
    name, _, selector = found["valueLocation"].rstrip("}").partition("{")
    label, _, text = selector.partition("=")
    labels = {label: text.strip('"')} if label else {}
    (value,) = (
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
    return value


def pods_of(spec: Mapping[str, Any], api: Api, key: Mapping[str, str]) -> tuple[float, int]:
    """The number that a ScaledObject follows, and the pods that this makes in the end."""
    values = {trigger["name"]: value_of(trigger, api, key) for trigger in spec["triggers"]}
    modifiers = spec["advanced"].get("scalingModifiers")
    if modifiers is None:
        (value,) = values.values()
        (trigger,) = spec["triggers"]
        target, activation = (trigger["metadata"][name] for name in ("targetValue", "activationTargetValue"))
    else:
        value = sum(values[name] for name in modifiers["formula"].split(" + "))
        target, activation = modifiers["target"], modifiers["activationTarget"]
    if value <= float(activation):
        return value, spec["minReplicaCount"]
    least = max(1, spec["minReplicaCount"])
    return value, min(max(math.ceil(value / float(target)), least), spec["maxReplicaCount"])


def submit(context: ServiceContext, model: str, *, num_frames: int = 12) -> Job:
    """A job with the message that asks for its plan."""
    found = INPUT.model_copy(update={"num_frames": num_frames})
    job = make_job(context, found=found, options=JobOptions(model=model))
    context.queue.enqueue(job.spec, PLAN)
    return job


def plan(context: ServiceContext, job: Job, num_segments: int, *, num_frames: int, is_complete: bool) -> None:
    """Plans segments and puts them into the queue as workers do, so the API's reconciler adds nothing."""
    delivery, task = take(context, str(job.spec.options.model))
    assert task == TaskId(job.id, PLAN)
    begin(context, job.id)
    context.store.append_plan(
        job.id,
        TOKEN,
        first_index=0,
        segments=["{}"] * num_segments,
        is_complete=is_complete,
        total_frames=num_frames,
    )
    for index in range(num_segments):
        context.queue.enqueue(job.spec, f"{SEGMENT}:{index}")
    end(context, job.id, PLAN)
    context.queue.messages.finish(delivery)
    if not is_complete:
        context.queue.enqueue(job.spec, PLAN, is_decided=True)


def take(context: ServiceContext, model: str) -> tuple[Delivery, TaskId]:
    """As a worker with one model."""
    found = context.queue.messages.take(tasks_for([model]), hold=TTL)
    assert isinstance(found, Delivery)
    return found, task_of(found.id)


def make(context: ServiceContext, delivery: Delivery, task: TaskId) -> None:
    """Makes a segment."""
    begin(context, task.job_id, task.task)
    index = int(task.task.partition(":")[2])
    made = FinishedSegment(
        index=index, key=f"{index}", num_frames=8, size_bytes=1, seconds=1, output_pixels=1
    )
    assert context.store.publish(task.job_id, made, TOKEN)
    end(context, task.job_id, task.task)
    context.queue.messages.finish(delivery)


def queued_by_model(context: ServiceContext) -> Counter[str | None]:
    """Messages of the queue: waiting, given and put off."""
    return Counter(context.store.get(task.job_id).spec.options.model for task in context.queue.tasks())


def test_pools_follow_all_work_of_the_queue_waiting_given_and_put_off(
    scaled: dict[str, Any], api_with_keys: Api
) -> None:
    context = api_with_keys.context
    _, key = api_with_keys.make_key(Scope.METRICS)
    assert [pods_of(scaled[name], api_with_keys, key) for name in ("cpu", "both", "all")] == [(0, 0)] * 3

    first, second = (submit(context, model) for model in ("bicubic", "lanczos"))
    plan(context, first, 5, num_frames=40, is_complete=True)
    plan(context, second, 3, num_frames=24, is_complete=True)
    make(context, *take(context, "lanczos"))
    # Two are being made, and one has failed and is put off.
    for model in ("bicubic", "lanczos"):
        _, task = take(context, model)
        begin(context, task.job_id, task.task, "other")
    failed, _ = take(context, "bicubic")
    context.queue.messages.put_back(failed, delay=timedelta(minutes=1))
    # And one has not begun.
    submit(context, "bicubic")

    waiting, given = (sum(numbers) for numbers in zip(*context.queue.depths().values(), strict=True))
    assert (waiting, given) == (6, 2)
    queued = queued_by_model(context)
    assert queued == {"bicubic": 6, "lanczos": 2}
    found = {name: pods_of(spec, api_with_keys, key) for name, spec in scaled.items()}
    # A pod for each three segments, or part of three.
    assert found == {"cpu": (queued["bicubic"], 2), "both": (waiting + given, 3), "all": (waiting + given, 3)}


def test_pools_follow_what_a_long_film_has_left_not_what_of_it_is_queued(
    scaled: dict[str, Any], api_with_keys: Api
) -> None:
    context = api_with_keys.context
    _, key = api_with_keys.make_key(Scope.METRICS)
    num_frames = round(100 * context.settings.segment_seconds * INPUT.frame_rate)
    film = submit(context, "bicubic", num_frames=num_frames)
    plan(context, film, 4, num_frames=num_frames, is_complete=False)
    # And its planning is to go on.
    assert queued_by_model(context) == {"bicubic": 4 + 1}
    assert pods_of(scaled["cpu"], api_with_keys, key) == (100, scaled["cpu"]["maxReplicaCount"])
    make(context, *take(context, "bicubic"))
    assert pods_of(scaled["all"], api_with_keys, key) == (99, 4)
