"""Job records: states, leases, attempts, fenced writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobs import keys
from jobs.connections import impatient_client
from jobs.errors import (
    JobExistsError,
    JobNotFoundError,
    JobStateError,
    LostLeaseError,
    OwnerLimitError,
    QueueFullError,
    StoreUnavailableError,
)
from jobs.records import JobError, JobState, Stage, Streaming, StreamSound
from jobs.specs import PRIORITIES, Priority
from jobs.store import PLANNED_ANEW, JobStore
from jobs.stored_bytes import StoredBytes
from tests.jobs.made import (
    MINUTE,
    PLAN,
    append,
    begin,
    complete,
    create,
    end,
    finished,
    make_batch,
    make_segment,
    make_spec,
    output,
    plan,
    planned,
)
from tests.redis_server import RedisServer

EXPIRED = timedelta()


def events(store: JobStore, job_id: str) -> list[str]:
    return [fields[b"type"].decode() for _, fields in store.client.xrange(f"dv:events:{job_id}")]


def enqueued(store: JobStore, job_id: str) -> set[int]:
    return {int(index) for index in store.client.smembers(keys.JOB_ENQUEUED(job_id))}


def test_a_job_goes_from_queued_to_completed(store: JobStore) -> None:
    job = create(store)
    assert (job.state, job.total_frames, job.stage) == (JobState.QUEUED, 100, None)
    complete(store, job.id)
    job = store.get(job.id)
    assert (job.state, job.progress, job.output) == (JobState.COMPLETED, 100, output(job.id))
    assert job.total_frames == job.processed_frames == 20
    assert job.expires_at is not None
    assert events(store, job.id)[0] == "status"
    assert events(store, job.id)[-1] == "completed"
    assert store.counts()[JobState.COMPLETED] == 1
    assert store.active_ids() == []


def test_stages_follow_one_another(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    assert store.get(job_id).stage is Stage.PLANNING
    append(store, job_id, range(1), is_complete=False)
    begin(store, job_id, "segment:0")
    begin(store, job_id, "plan", "other")
    assert store.get(job_id).stage is Stage.UPSCALING
    begin(store, job_id, "join")
    assert store.get(job_id).stage is Stage.JOINING


def test_a_task_is_held_by_one_attempt(store: JobStore) -> None:
    job_id = create(store).id
    assert begin(store, job_id, "plan", "first").outcome == "ok"
    busy = begin(store, job_id, "plan", "second")
    assert busy.outcome == "busy"
    assert 0 < busy.number <= 60_000
    assert store.leased_tasks(job_id) == {"plan"}


def test_an_expired_lease_is_taken_over_and_the_late_attempt_may_not_write(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 1)
    begin(store, job_id, "segment:0", "late", ttl=EXPIRED)
    assert begin(store, job_id, "segment:0", "new").number == 2
    for act in (
        lambda: store.renew(job_id, "segment:0", "late", ttl=MINUTE),
        lambda: store.publish(job_id, finished(0, "late"), "late"),
        lambda: store.set_fields(job_id, "segment:0", "late", total_frames=1),
    ):
        with pytest.raises(LostLeaseError, match="another attempt"):
            act()
    assert store.publish(job_id, finished(0, "new"), "new")


def test_a_late_attempt_may_write_while_nobody_has_taken_over(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 1)
    begin(store, job_id, "segment:0", ttl=EXPIRED)
    assert store.publish(job_id, finished(0), "token")


def test_a_segment_is_published_once(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 1)
    make_segment(store, job_id, 0)
    assert begin(store, job_id, "segment:0", "second").outcome == "done"
    assert store.finished_segments(job_id) == [finished(0)]
    assert events(store, job_id).count("segment") == 1


def test_what_is_sent_twice_after_a_lost_answer_is_told_the_same(store: JobStore) -> None:
    job_id = create(store).id
    for _ in range(2):
        assert begin(store, job_id, "plan") == begin(store, job_id, "plan")
        append(store, job_id, range(2))
    end(store, job_id, "plan", "finished")
    begin(store, job_id, "segment:0")
    assert [store.publish(job_id, finished(0), "token") for _ in range(2)] == [True, True]
    assert store.get(job_id).num_finished_segments == 1
    make_segment(store, job_id, 1)
    begin(store, job_id, "join")
    for _ in range(2):
        store.complete(job_id, "token", output(job_id), ttl=MINUTE)
    assert store.get(job_id).num_segments == 2
    assert events(store, job_id).count("completed") == 1


def test_attempts_are_counted_to_the_cap(store: JobStore) -> None:
    job_id = create(store).id
    for number in (1, 2):
        assert begin(store, job_id, "plan", f"{number}", ttl=EXPIRED, max_attempts=2).number == number
    exhausted = begin(store, job_id, "plan", "3", max_attempts=2)
    assert (exhausted.outcome, exhausted.number) == ("exhausted", 2)
    assert store.get(job_id).attempts == 2


def test_a_drained_attempt_does_not_count_and_a_finished_one_clears_the_count(store: JobStore) -> None:
    job_id = create(store).id
    for _ in range(6):
        assert begin(store, job_id, "plan").number == 1
        end(store, job_id, "plan", "drained")
    for _ in range(6):
        assert begin(store, job_id, "plan").number == 1
        end(store, job_id, "plan", "finished")


def test_an_attempt_whose_end_was_announced_does_not_count_if_its_worker_is_then_killed(
    store: JobStore,
) -> None:
    job_id = create(store).id
    for number in range(6):
        token = f"spot-{number}"
        beginning = begin(store, job_id, "plan", token, max_attempts=4)
        assert (beginning.outcome, beginning.number) == ("ok", 1)
        for _ in range(3):
            store.renew(job_id, "plan", token, ttl=EXPIRED, is_stopping=True)
    assert begin(store, job_id, "plan", "ordinary").number == 1


@pytest.mark.parametrize(("reason", "number"), [("failed", 2), ("drained", 1), ("finished", 1)])
def test_an_announced_end_is_taken_back_by_the_end_that_comes(
    store: JobStore, reason: str, number: int
) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    store.renew(job_id, "plan", "token", ttl=MINUTE, is_stopping=True)
    assert store.leased_tasks(job_id) == {"plan"}
    end(store, job_id, "plan", reason)
    assert begin(store, job_id, "plan", "next").number == number


def test_a_failed_task_goes_to_another_worker_if_there_is_one(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    end(store, job_id, "plan", "failed")
    assert begin(store, job_id, "plan", num_workers=2).outcome == "elsewhere"
    assert begin(store, job_id, "plan", worker="worker-2", num_workers=2).outcome == "ok"
    end(store, job_id, "plan", "drained")
    assert begin(store, job_id, "plan", num_workers=1).outcome == "ok"


def test_a_task_comes_back_when_no_other_worker_takes_it(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    end(store, job_id, "plan", "failed")
    outcomes = [begin(store, job_id, "plan", f"token-{n}", num_workers=2).outcome for n in range(11)]
    assert outcomes == ["elsewhere"] * 10 + ["ok"]


def test_progress_counts_finished_and_running_frames(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 3)
    make_segment(store, job_id, 0)
    for index in (1, 2):
        begin(store, job_id, f"segment:{index}")
        store.renew(job_id, f"segment:{index}", "token", ttl=MINUTE, num_frames=4)
    assert store.get(job_id).processed_frames == 18
    end(store, job_id, "segment:1", "failed")
    job = store.get(job_id)
    assert (job.processed_frames, job.progress) == (14, 46)
    assert job.frames_per_second is not None
    assert job.eta_seconds is not None


def test_no_more_than_the_window_is_given_out(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 5)
    assert store.advance(job_id, window=2).segments == (0, 1)
    assert store.advance(job_id, window=2).segments == ()
    make_segment(store, job_id, 1)
    assert store.advance(job_id, window=2).segments == (2,)
    assert enqueued(store, job_id) == {0, 2}


def test_the_join_is_due_when_all_segments_are_there(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 2)
    for index in store.advance(job_id, window=2).segments:
        assert not store.advance(job_id, window=2).is_join_due
        make_segment(store, job_id, index)
    assert store.advance(job_id, window=2).is_join_due


def test_the_join_is_not_due_while_segments_may_be_missing(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 1, is_complete=False)
    store.advance(job_id, window=2)
    make_segment(store, job_id, 0)
    assert not store.advance(job_id, window=2).is_join_due


def test_planning_is_asked_for_once(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    append(store, job_id, range(3), is_complete=False)
    assert not store.advance(job_id, window=2).is_planning_due  # it is being done
    end(store, job_id, "plan", "finished")
    assert [store.advance(job_id, window=2).is_planning_due for _ in range(2)] == [True, False]
    begin(store, job_id, "plan")
    end(store, job_id, "plan", "drained")
    assert store.advance(job_id, window=2).is_planning_due


def test_planning_goes_on_where_it_ended(store: JobStore) -> None:
    job_id = create(store).id
    assert store.planned_segment(job_id, -1) is None
    plan(store, job_id, 2, is_complete=False)
    assert store.planned_segment(job_id, -1) == planned(1).encode()
    begin(store, job_id, "plan", "other")
    with pytest.raises(LostLeaseError):
        append(store, job_id, range(1, 3), token="other")
    append(store, job_id, range(2, 4), token="other")
    found = [store.planned_segment(job_id, index) for index in range(5)]
    assert found == [*(planned(index).encode() for index in range(4)), None]


def test_a_job_that_nobody_works_on_is_cancelled_at_once(store: JobStore) -> None:
    job_id = create(store).id
    for _ in range(2):
        assert store.cancel(job_id, ttl=MINUTE).state is JobState.CANCELLED
    assert begin(store, job_id, "plan").outcome == "stopped"


def test_a_running_job_is_cancelled_when_its_last_attempt_ends(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 2)
    for index in (0, 1):
        begin(store, job_id, f"segment:{index}")
    assert store.cancel(job_id, ttl=MINUTE).state is JobState.CANCELLING
    with pytest.raises(LostLeaseError, match="being cancelled"):
        store.renew(job_id, "segment:0", "token", ttl=MINUTE)
    end(store, job_id, "segment:0", "drained")
    assert store.get(job_id).state is JobState.CANCELLING
    end(store, job_id, "segment:1", "drained")
    assert store.get(job_id).state is JobState.CANCELLED


def test_a_failed_job_stays_failed_and_tells_why(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    error = JobError(code="no_video", message="there is no video")
    for _ in range(2):
        store.fail(job_id, error, ttl=MINUTE)
    store.fail(job_id, JobError(code="other", message="too late"), ttl=MINUTE)
    assert store.get(job_id).error == error
    assert events(store, job_id).count("failed") == 1


def test_a_retry_keeps_segments_and_forgets_attempts(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 3)
    assert store.advance(job_id, window=3).segments == (0, 1, 2)
    make_segment(store, job_id, 1)
    begin(store, job_id, "segment:0")
    store.fail(job_id, JobError(code="x", message="x"), ttl=MINUTE)
    job = store.retry(job_id)
    assert (job.state, job.error, job.attempts, job.processed_frames) == (JobState.QUEUED, None, 0, 10)
    assert begin(store, job_id, "plan").outcome == "done"
    assert store.advance(job_id, window=3).segments == (0, 2)
    assert begin(store, job_id, "segment:0", "new").outcome == "ok"


MISMATCH = JobError(code="job_mismatch", message="another version")


def fail_as(store: JobStore, job_id: str, task: str) -> bool:
    return store.fail(job_id, MISMATCH, ttl=MINUTE, task=task, token="token")


def test_a_job_that_another_version_has_planned_is_planned_anew_once(store: JobStore) -> None:
    job_id = create(store).id
    plan(store, job_id, 3)
    store.advance(job_id, window=3)
    for index in range(3):
        begin(store, job_id, f"segment:{index}")
    make_segment(store, job_id, 0)
    assert fail_as(store, job_id, "segment:1")
    job = store.get(job_id)
    assert (job.state, job.plan, job.num_segments, job.processed_frames) == (JobState.QUEUED, None, 0, 0)
    assert (job.warnings, job.error, job.attempts) == ((PLANNED_ANEW,), None, 0)
    assert StoredBytes(store.client).of("local") == 1000
    # Whoever is still at the old plan stops, and changes nothing.
    assert not fail_as(store, job_id, "segment:2")
    with pytest.raises(LostLeaseError):
        store.renew(job_id, "segment:2", "token", ttl=MINUTE)
    with pytest.raises(LostLeaseError):
        store.publish(job_id, finished(2), "token")
    assert begin(store, job_id, "segment:2").outcome == "done"
    assert store.get(job_id).state is JobState.QUEUED
    complete(store, job_id)
    assert store.get(job_id).state is JobState.COMPLETED


def test_versions_that_take_turns_do_not_plan_a_job_for_ever(store: JobStore) -> None:
    job_id = create(store).id
    for is_last in (False, True):
        plan(store, job_id, 2)
        begin(store, job_id, "segment:0")
        assert fail_as(store, job_id, "segment:0") is not is_last
    job = store.get(job_id)
    assert (job.state, job.error, job.num_segments) == (JobState.FAILED, MISMATCH, 2)
    # Whoever tries it again wants it made, not refused for the same reason.
    job = store.retry(job_id)
    assert (job.state, job.plan, job.num_segments) == (JobState.QUEUED, None, 0)
    plan(store, job_id, 2)
    begin(store, job_id, "segment:0")
    assert fail_as(store, job_id, "segment:0")


def test_only_who_holds_a_task_fails_its_job(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    error = JobError(code="x", message="x")
    assert not store.fail(job_id, error, ttl=MINUTE, task="plan", token="another")
    assert store.get(job_id).state is JobState.IN_PROGRESS
    store.fail(job_id, error, ttl=MINUTE, task="plan", token="token")
    assert store.get(job_id).state is JobState.FAILED


def test_a_failed_job_cannot_be_cancelled(store: JobStore) -> None:
    job_id = create(store).id
    store.fail(job_id, JobError(code="x", message="x"), ttl=MINUTE)
    with pytest.raises(JobStateError, match="failed"):
        store.cancel(job_id, ttl=MINUTE)


def test_a_job_that_goes_on_is_not_tried_again(store: JobStore) -> None:
    job_id = create(store).id
    assert store.retry(job_id).state is JobState.QUEUED
    assert begin(store, job_id, "plan").outcome == "ok"
    again = store.retry(job_id)
    assert (again.state, again.attempts) == (JobState.IN_PROGRESS, 1)
    store.cancel(job_id, ttl=MINUTE)
    with pytest.raises(JobStateError, match="cancelling"):
        store.retry(job_id)


def test_a_completed_job_cannot_be_tried_again(store: JobStore) -> None:
    job_id = create(store).id
    complete(store, job_id)
    with pytest.raises(JobStateError, match="completed"):
        store.retry(job_id)


def test_a_completed_job_keeps_no_names_of_its_objects_and_nothing_that_only_workers_need(
    store: JobStore,
) -> None:
    job_id = create(store, input_key="uploads/1").id
    begin(store, job_id, "plan")
    sound = StreamSound(key=f"jobs/{job_id}/audio.mp4", size_bytes=1, index_key=f"jobs/{job_id}/audio.json")
    run = PLAN.model_copy(update={"description_key": f"jobs/{job_id}/run.json"})
    streaming = Streaming(sound=sound)
    store.set_fields(job_id, "plan", "token", run=run.model_dump(), stream=streaming.model_dump())
    planned_job = store.get(job_id)
    assert (planned_job.plan, planned_job.streaming) == (run, streaming)
    end(store, job_id, "plan", "drained")
    complete(store, job_id)
    ended = store.get(job_id)
    assert (ended.plan, ended.output) == (PLAN, output(job_id))
    record = store.client.hgetall(f"dv:job:{job_id}")
    assert [name for name, value in record.items() if b"jobs/" in value] == []
    assert set(store.client.scan_iter(f"dv:job:{job_id}*")) == {f"dv:job:{job_id}".encode()}


def test_nothing_of_a_deleted_job_is_left(store: JobStore) -> None:
    job_id = create(store, labels={"film": "1"}, batch_id="batch_1").id
    plan(store, job_id, 2)
    begin(store, job_id, "segment:0")
    assert store.delete(job_id)
    assert not store.delete(job_id)
    with pytest.raises(JobNotFoundError):
        store.get(job_id)
    with pytest.raises(LostLeaseError, match="deleted"):
        store.publish(job_id, finished(0), "token")
    assert begin(store, job_id, "segment:0").outcome == "gone"
    left = set(store.client.scan_iter(f"*{job_id}*"))
    assert left <= {f"dv:events:{job_id}".encode()}  # for those who listen; it expires
    assert store.client.ttl(f"dv:events:{job_id}") > 0
    assert store.counts()[JobState.IN_PROGRESS] == 0


def test_warnings_are_kept_once(store: JobStore) -> None:
    job_id = create(store).id
    begin(store, job_id, "plan")
    store.set_fields(job_id, "plan", "token", warnings=["one", "two"], run=PLAN.model_dump())
    store.set_fields(job_id, "plan", "token", warnings=["two", "three"])
    job = store.get(job_id)
    assert job.warnings == ("one", "two", "three")
    assert job.plan == PLAN


def test_only_so_many_jobs_may_wait(store: JobStore) -> None:
    for _ in range(2):
        store.create(make_spec(), max_waiting=2)
    with pytest.raises(QueueFullError, match="2 jobs are waiting"):
        store.create(make_spec(), max_waiting=2)


def test_an_owner_may_have_so_many_unfinished_jobs(store: JobStore) -> None:
    first = store.create(make_spec(owner="a"), max_waiting=10, max_of_owner=1)
    store.create(make_spec(owner="b"), max_waiting=10, max_of_owner=1)
    with pytest.raises(OwnerLimitError):
        store.create(make_spec(owner="a"), max_waiting=10, max_of_owner=1)
    store.cancel(first.id, ttl=MINUTE)
    store.create(make_spec(owner="a"), max_waiting=10, max_of_owner=1)


def test_an_id_is_used_once(store: JobStore) -> None:
    spec = make_spec()
    store.create(spec, max_waiting=10)
    with pytest.raises(JobExistsError):
        store.create(spec.model_copy(update={"owner": "another"}), max_waiting=10)


def test_a_job_of_another_owner_does_not_exist(store: JobStore) -> None:
    job_id = create(store, owner="a").id
    assert store.get(job_id, owner="a").id == job_id
    with pytest.raises(JobNotFoundError):
        store.get(job_id, owner="b")


def test_those_who_wait_are_counted_by_priority(store: JobStore) -> None:
    _, _, high = (create(store, priority=priority) for priority in reversed(PRIORITIES))
    assert store.num_waiting() == dict.fromkeys(PRIORITIES, 1)
    assert store.oldest_waiting_seconds()[Priority.HIGH] > 0
    begin(store, high.id, "plan")
    assert store.oldest_waiting_seconds()[Priority.HIGH] == 0


def test_pages_hold_every_job_once(store: JobStore) -> None:
    ids = [create(store, owner="a").id for _ in range(7)]
    create(store, owner="b")
    pages = pages_of(store, "a", limit=3, is_descending=False)
    assert pages == [sorted(ids)[0:3], sorted(ids)[3:6], sorted(ids)[6:]]


def pages_of(store: JobStore, owner: str, **options: Any) -> list[list[str]]:
    """Ids on all pages of a list, followed to its end."""
    pages, after = [], None
    while not pages or after is not None:
        jobs, after = store.list_jobs(owner, after=after, **options)
        pages.append([job.id for job in jobs])
    return pages


def test_a_page_looks_at_a_bounded_number_of_jobs(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs._listing_store._STEP", 2)
    monkeypatch.setattr("jobs._listing_store._SCANNED_AT_MOST", 4)
    ids = [create(store, labels={"kind": "film"}).id for _ in range(11)]
    for job_id in (ids[0], ids[10]):
        store.cancel(job_id, ttl=MINUTE)
    options: dict[str, Any] = {"limit": 1, "is_descending": False, "labels": [("kind", "film")]}
    cancelled, unfinished = [JobState.CANCELLED, JobState.FAILED], [JobState.QUEUED, JobState.CANCELLING]
    # The second page is empty, and says where to go on.
    assert pages_of(store, "local", states=cancelled, **options) == [[ids[0]], [], [ids[10]]]
    found = pages_of(store, "local", states=unfinished, **options)
    assert [job_id for page in found for job_id in page] == ids[1:10]
    # The index with few jobs is walked, not the one with many.
    assert pages_of(store, "local", states=[JobState.CANCELLED], **options) == [[ids[0]], [ids[10]]]


def test_another_customers_batch_lists_nothing(store: JobStore) -> None:
    create(store, owner="a", batch_id="batch_1")
    assert pages_of(store, "b", limit=5, batch_id="batch_1") == [[]]


def test_lists_are_filtered_by_state_label_and_batch(store: JobStore) -> None:
    batch_id, _ = make_batch(store, num_files=1)
    film = create(store, labels={"kind": "film"}, batch_id=batch_id).id
    show = create(store, labels={"kind": "show"}).id
    store.cancel(show, ttl=MINUTE)

    def found(**options: object) -> list[str]:
        return [job.id for job in store.list_jobs("local", limit=10, **options)[0]]  # type: ignore[arg-type]

    assert found(states=[JobState.CANCELLED]) == [show]
    assert found(states=[JobState.CANCELLED, JobState.QUEUED]) == sorted([film, show], reverse=True)
    assert found(labels=[("kind", "film")]) == [film]
    assert found(labels=[("kind", "film")], states=[JobState.CANCELLED]) == []
    assert found(batch_id=batch_id) == [film]


def test_expired_jobs_are_found(store: JobStore) -> None:
    early, late = create(store).id, create(store).id
    store.cancel(early, ttl=timedelta())
    store.cancel(late, ttl=MINUTE)
    assert store.expired_ids(limit=10) == [early]


@pytest.mark.parametrize("num_segments", [0, 2])
def test_a_job_always_waits_for_something(store: JobStore, num_segments: int) -> None:
    job_id = create(store).id
    assert store.awaited_tasks(job_id) == {"plan"}
    plan(store, job_id, num_segments, is_complete=False)
    store.advance(job_id, window=2)
    assert store.awaited_tasks(job_id) == {"plan", *(f"segment:{n}" for n in range(num_segments))}
    begin(store, job_id, "plan")
    append(store, job_id, range(num_segments, num_segments + 1))
    end(store, job_id, "plan", "finished")
    while steps := store.advance(job_id, window=2).segments or sorted(enqueued(store, job_id)):
        for index in steps:
            make_segment(store, job_id, index)
    assert store.awaited_tasks(job_id) == {"join"}
    begin(store, job_id, "join")
    store.complete(job_id, "token", output(job_id), ttl=MINUTE)
    assert store.awaited_tasks(job_id) == set()


def test_records_survive_a_crash_of_redis(own_redis: RedisServer) -> None:
    with impatient_client(own_redis.url) as client:
        store = JobStore(client)
        job_id = create(store).id
        plan(store, job_id, 2)
        own_redis.kill()
        with pytest.raises(StoreUnavailableError):
            store.get(job_id)
        own_redis.restart()
        assert store.advance(job_id, window=2).segments == (0, 1)
