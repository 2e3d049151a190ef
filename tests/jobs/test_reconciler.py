"""Jobs that stand still are found, healthy ones are left alone."""

from __future__ import annotations

from jobs.messages import Delivery
from jobs.queue import JobQueue, TaskId, task_of, tasks_for
from jobs.reconciler import reconcile_once
from jobs.records import JobState
from jobs.specs import Priority
from jobs.store import JobStore
from tests.jobs.made import MINUTE, PLAN, append, begin, complete, create, end, make_segment, plan


def looks(store: JobStore, queue: JobQueue, count: int = 2) -> None:
    suspects: set[TaskId] = set()
    for _ in range(count):
        suspects = reconcile_once(store, queue, suspects, cancelled_ttl=MINUTE)


def test_a_job_without_a_message_is_planned(store: JobStore, queue: JobQueue) -> None:
    job_id = create(store, priority=Priority.HIGH).id
    looks(store, queue)
    assert queue.tasks() == {TaskId(job_id, "plan")}
    assert queue.depths()[Priority.HIGH] == (1, 0)


def test_one_look_is_not_enough(store: JobStore, queue: JobQueue) -> None:
    create(store)
    looks(store, queue, 1)
    assert queue.tasks() == set()


def test_what_was_enqueued_is_not_enqueued_again(store: JobStore, queue: JobQueue) -> None:
    create(store)
    looks(store, queue, 10)
    assert queue.depths()[Priority.NORMAL] == (1, 0)


def test_lost_segments_are_enqueued_and_running_ones_are_not(store: JobStore, queue: JobQueue) -> None:
    job_id = create(store).id
    plan(store, job_id, 4)
    assert store.advance(job_id, window=3).segments == (0, 1, 2)
    begin(store, job_id, "segment:0")
    queue.enqueue(store.get(job_id).spec, "segment:1")
    looks(store, queue)
    assert queue.tasks() == {TaskId(job_id, "segment:1"), TaskId(job_id, "segment:2")}


def test_a_lost_join_is_enqueued(store: JobStore, queue: JobQueue) -> None:
    job_id = create(store).id
    plan(store, job_id, 1)
    store.advance(job_id, window=2)
    make_segment(store, job_id, 0)
    assert store.advance(job_id, window=2).is_join_due
    looks(store, queue)
    assert queue.tasks() == {TaskId(job_id, "join")}


def test_a_lost_continuation_of_planning_is_enqueued(store: JobStore, queue: JobQueue) -> None:
    job_id = create(store).id
    plan(store, job_id, 1, is_complete=False)
    assert store.advance(job_id, window=2).is_planning_due
    queue.enqueue(store.get(job_id).spec, "segment:0")
    looks(store, queue)
    assert TaskId(job_id, "plan") in queue.tasks()


def test_a_job_that_gave_out_nothing_is_set_going(store: JobStore, queue: JobQueue) -> None:
    """As when a worker dies between publishing a segment and asking what is next."""
    job_id = create(store).id
    plan(store, job_id, 2)
    looks(store, queue)
    assert queue.tasks() == {TaskId(job_id, "plan")}


def test_a_lost_plan_of_a_decided_job_is_for_who_only_cuts(store: JobStore, queue: JobQueue) -> None:
    decided, new = (create(store).id for _ in range(2))
    begin(store, decided, "plan")
    store.set_fields(decided, "plan", "token", run=PLAN.model_dump(mode="json"))
    end(store, decided, "plan", "drained")
    looks(store, queue)
    assert queue.tasks() == {TaskId(decided, "plan"), TaskId(new, "plan")}
    cutting = tasks_for((), ("plan",))
    found = queue.messages.take(cutting, hold=MINUTE)
    assert isinstance(found, Delivery)
    assert task_of(found.id) == TaskId(decided, "plan")
    assert not isinstance(queue.messages.take(cutting, hold=MINUTE), Delivery)


def test_healthy_and_ended_jobs_are_left_alone(store: JobStore, queue: JobQueue) -> None:
    complete(store, create(store).id)
    store.cancel(create(store).id, ttl=MINUTE)
    planning = create(store).id
    begin(store, planning, "plan")
    append(store, planning, range(3), is_complete=False)
    waiting = create(store).id
    queue.enqueue(store.get(waiting).spec, "plan")
    looks(store, queue, 3)
    assert queue.tasks() == {TaskId(waiting, "plan")}


def test_a_cancelled_job_ends_when_its_attempts_are_dead(store: JobStore, queue: JobQueue) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    store.cancel(job_id, ttl=MINUTE)
    looks(store, queue)
    assert store.get(job_id).state is JobState.CANCELLING
    begin_again = store.client.hset(f"dv:job:{job_id}:leases", "plan", "token 0")  # it expires
    assert begin_again == 0
    looks(store, queue, 1)
    assert store.get(job_id).state is JobState.CANCELLED
