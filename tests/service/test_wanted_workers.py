"""The number that autoscalers want: it must grow with a film's length and never end below what runs."""

from __future__ import annotations

import pytest

from jobs.queue import TaskKind
from jobs.records import JobState
from jobs.specs import Priority
from jobs.store import JobStore
from service.system.wanted import count_wanted_workers
from tests.jobs.conftest import client, redis_server, session_redis, store
from tests.jobs.made import MINUTE, append, begin, complete, create, end, make_segment

__all__ = ["client", "redis_server", "session_redis", "store"]


MODELS = ("usual", "large", "standin:")


def wanted(store: JobStore, num_examined: int = 100) -> int:
    """With segments of a second; the jobs of these tests have 100 frames, at 25 frames per second."""
    return count_wanted_workers(store, MODELS, segment_seconds=1, num_examined=num_examined).total


def test_segments_count_before_anybody_has_planned_them(store: JobStore) -> None:
    assert wanted(store) == 0
    job = create(store)
    assert wanted(store) == 4
    begin(store, job.id, "plan")
    append(store, job.id, range(2), is_complete=False)
    assert wanted(store) == 4


def test_finished_segments_count_no_more_and_the_join_is_work_too(store: JobStore) -> None:
    job = create(store)
    begin(store, job.id, "plan")
    append(store, job.id, range(6))
    end(store, job.id, "plan", "finished")
    assert wanted(store) == 6
    begin(store, job.id, "segment:5", "other")
    make_segment(store, job.id, 0)
    assert wanted(store) == 5
    end(store, job.id, "segment:5", "drained", "other")
    for index in range(1, 6):
        make_segment(store, job.id, index)
    assert wanted(store) == 1


def test_jobs_beyond_those_that_are_examined_count_for_one_each(store: JobStore) -> None:
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        create(store, priority=priority)
    assert wanted(store) == 12
    assert wanted(store, num_examined=1) == 4 + 2


@pytest.mark.parametrize("is_begun", [False, True])
def test_nobody_is_wanted_for_jobs_that_are_over(store: JobStore, is_begun: bool) -> None:
    done, cancelled = create(store).id, create(store).id
    complete(store, done)
    if is_begun:
        begin(store, cancelled, "plan")
    store.cancel(cancelled, ttl=MINUTE)
    assert store.get(cancelled).state == (JobState.CANCELLING if is_begun else JobState.CANCELLED)
    assert wanted(store) == 0


def by_task(store: JobStore, num_examined: int = 100) -> dict[TaskKind, int]:
    return count_wanted_workers(store, MODELS, segment_seconds=1, num_examined=num_examined).by_task


def segments_by_model(store: JobStore, num_examined: int = 100) -> dict[str, int]:
    found = count_wanted_workers(store, MODELS, segment_seconds=1, num_examined=num_examined)
    return found.segments_by_model


def test_each_kind_of_task_wants_those_who_take_it_while_there_are_such_tasks(store: JobStore) -> None:
    assert by_task(store) == {"plan": 0, "segment": 0, "join": 0}
    job = create(store)
    assert by_task(store) == {"plan": 1, "segment": 4, "join": 0}
    begin(store, job.id, "plan")
    append(store, job.id, range(1), is_complete=False)
    make_segment(store, job.id, 0)
    assert by_task(store) == {"plan": 1, "segment": 3, "join": 0}
    append(store, job.id, range(1, 3))
    end(store, job.id, "plan", "finished")
    assert by_task(store) == {"plan": 0, "segment": 2, "join": 0}
    for index in (1, 2):
        make_segment(store, job.id, index)
    assert by_task(store) == {"plan": 0, "segment": 0, "join": 1}
    assert segments_by_model(store) == {"usual": 0, "large": 0, "standin:": 0}
    assert by_model(store) == {"usual": 1, "large": 0, "standin:": 0}


def test_those_who_only_make_segments_are_wanted_for_their_models(store: JobStore) -> None:
    create(store, model="large")
    create(store)
    create(store)
    assert segments_by_model(store) == {"usual": 8, "large": 4, "standin:": 0}
    assert segments_by_model(store, num_examined=1) == {"usual": 1, "large": 4, "standin:": 1}
    assert by_task(store, num_examined=1) == {"plan": 1, "segment": 4 + 2, "join": 1}


def by_model(store: JobStore, num_examined: int = 100) -> dict[str, int]:
    return count_wanted_workers(store, MODELS, segment_seconds=1, num_examined=num_examined).by_model


def test_each_kind_of_worker_is_wanted_for_the_jobs_of_its_models(store: JobStore) -> None:
    assert by_model(store) == {"usual": 0, "large": 0, "standin:": 0}
    for model in (None, "large", "large", "standin:sleep=1"):
        create(store, model=model)
    assert by_model(store) == {"usual": 4, "large": 8, "standin:": 4}


def test_no_kind_of_worker_is_forgotten_behind_many_jobs_of_another(store: JobStore) -> None:
    for _ in range(3):
        create(store)
    create(store, model="large")
    assert by_model(store, num_examined=2) == {"usual": 8, "large": 1, "standin:": 1}
