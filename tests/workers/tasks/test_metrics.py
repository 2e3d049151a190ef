"""What a worker tells Prometheus and the fleet's register."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from jobs.fleet import WorkerInfo
from tests.workers.tasks.farm import Farm, wait_until
from tests.workers.tasks.standins import Door, scripted
from workers.metrics import WorkerCollector, served_metrics
from workers.tasks.outcomes import Outcomes


def test_metrics_are_served_for_prometheus() -> None:
    outcomes = Outcomes()
    for task, outcome, seconds in (
        ("segment:1", "finished", 2),
        ("segment:2", "finished", 3),
        ("plan", "lost", 1),
    ):
        outcomes.add(task, outcome, seconds)
    worker = WorkerInfo(id="w", host="h", pid=1, task="job:plan", host_memory_bytes=1000)
    with (
        served_metrics(0, WorkerCollector(lambda: worker, outcomes, lambda: ["landlock"])) as port,
        urlopen(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        families = text_string_to_metric_families(answer.read().decode())
        found = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }
    assert found["dovetail_worker_busy",] == 1
    assert found["dovetail_worker_draining",] == 0
    assert found["dovetail_worker_sandbox_protection", "landlock"] == 0
    assert found["dovetail_worker_sandbox_protection", "seccomp"] == 1
    assert found["dovetail_worker_resident_memory_bytes",] == 1000
    assert found["dovetail_worker_attempts_total", "finished", "segment"] == 2
    assert found["dovetail_worker_attempt_seconds_total", "finished", "segment"] == 5
    assert found["dovetail_worker_attempts_total", "lost", "plan"] == 1


def test_the_fleet_knows_what_a_worker_does(farm: Farm, short_clip: Path) -> None:
    door = Door()
    with farm.worker(load=scripted(door), models=("bicubic", "door")) as context:
        (worker,) = farm.fleet.workers()
        assert (worker.id, worker.task, worker.is_draining) == (context.worker_id, "", False)
        assert worker.host_memory_bytes > 0
        job_id = farm.submit(short_clip, model="door")
        assert door.reached.wait(60)
        assert context.task is not None
        assert context.task.task == "segment:0"
        context.stopping.drain()
        (worker,) = wait_until(lambda: [w for w in farm.fleet.workers() if w.is_draining])
        assert worker.task == f"{job_id}:segment:0"
        door.open()
    assert farm.fleet.workers() == []
    assert context.outcomes.snapshot()["segment", "finished"][0] == 1


def test_the_catalogue_names_all_models_the_default_first(farm: Farm) -> None:
    with farm.worker(models=("lanczos", "bicubic")):
        models = farm.fleet.models()
    assert [(model.name, model.kind, model.is_listed) for model in models] == [
        ("lanczos", "interpolation", True),
        ("bicubic", "interpolation", True),
        ("standin:", "standin", False),
    ]
