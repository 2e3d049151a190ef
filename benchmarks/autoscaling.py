"""How pools of workers follow a long film and many clips, from zero and back.

    python -m benchmarks.autoscaling

A three-hour film and fifty clips of 20 seconds pass through a simulated cluster (`simulated_cluster`), with
the chart's own values of autoscaling but 16 pods: first with a pool for each model that takes every task,
then with these for segments alone and one without GPUs that cuts and joins. A segment is assumed to take
40 s, a large pod two minutes to start. Writes docs/images/autoscaling.png and autoscaling-by-task.png.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.keda_rules import Pool
from benchmarks.results_file import write_results
from benchmarks.simulated_cluster import Cluster, Video, turns
from jobs.connections import patient_client
from jobs.embedded_redis import EmbeddedRedis
from jobs.messages import MessageQueue
from jobs.queue import JOIN, PLAN, SEGMENT, TASK_KINDS, JobQueue, TaskKind
from jobs.store import JobStore

_ROOT = Path(__file__).parents[1]
_PICTURES = _ROOT / "docs/images"
_VALUES = _ROOT / "deploy/helm/dovetail/values.yaml"
_TASKS = {"plan": 10.0, "segment": 40.0, "join": 20.0}
_MODELS = ("small", "large")
_COLOURS = {"large": "#2f6f9f", "small": "#c2703d", "cutting": "#6b6b6b"}


def _pools(autoscaling: dict[str, int], *, by_task: bool) -> list[Pool]:
    only: tuple[TaskKind, ...] = (SEGMENT,) if by_task else TASK_KINDS
    pools = [
        Pool("large", ("large",), autoscaling, _TASKS, start_seconds=120, only=only),
        Pool("small", ("small",), autoscaling, _TASKS, start_seconds=20, only=only),
    ]
    if by_task:
        pools.append(Pool("cutting", (), autoscaling, _TASKS, start_seconds=10, only=(PLAN, JOIN)))
    return pools


def _simulate(folder: Path, *, by_task: bool) -> Cluster:
    autoscaling = yaml.safe_load(_VALUES.read_text())["worker"]["autoscaling"] | {"max": 16}
    pools = _pools(autoscaling, by_task=by_task)
    server = EmbeddedRedis(folder)
    server.ensure_running()
    try:
        with patient_client(server.url) as client, patient_client(server.url.replace("/0", "/1")) as other:
            cluster = Cluster(JobStore(client), JobQueue(other), pools, models=_MODELS)
            film = Video(300, "studio", "large", 3 * 3600)
            # Half of them want what the film wants.
            clips = [Video(1800 + 20 * n, "others", "large" if n % 2 else "small", 20) for n in range(50)]
            cluster.run([film, *clips])
            assert MessageQueue(other).ids("normal") == []
            return cluster
    finally:
        server.stop()


def _draw(cluster: Cluster, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (work, pods, waits) = pyplot.subplots(3, sharex=True, figsize=(9, 7), constrained_layout=True)
    for name, samples in cluster.samples.items():
        minutes, colour = [sample.at / 60 for sample in samples], _COLOURS[name]
        work.step(minutes, [sample.wanted for sample in samples], where="post", color=colour, label=name)
        pods.step(minutes, [sample.pods for sample in samples], where="post", color=colour, label=name)
        pods.fill_between(
            minutes, [sample.busy for sample in samples], step="post", color=colour, alpha=0.3, linewidth=0
        )
        if name not in _MODELS:
            continue
        points = [
            (video.at / 60, seconds / 60)
            for video, seconds in cluster.latencies
            if video.model == name and video.owner == "others"
        ]
        waits.scatter(*zip(*points, strict=True), color=colour, s=12, label=f"clips, {name}")
    work.set_yscale("symlog", linthresh=10)
    work.set_ylim(bottom=0)
    work.set_ylabel("work left (gauge)")
    pods.set_ylabel("pods; shaded: at work")
    waits.set_ylabel("minutes until done")
    waits.set_ylim(bottom=0)
    waits.set_xlabel("minutes")
    for axes in (work, pods, waits):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=100)


def _describe(cluster: Cluster, name: str) -> dict[str, Any]:
    samples = cluster.samples[name]
    waits = sorted(s for video, s in cluster.latencies if video.owner == "others" and video.model == name)
    described: dict[str, Any] = {
        "most_pods": max(sample.pods for sample in samples),
        "turns": turns(samples),
        "busy_hours": round(cluster.busy_seconds[name] / 3600, 2),
        "idle_hours": round(cluster.idle_seconds[name] / 3600, 2),
        "pods_started": sum(max(0, b.replicas - a.replicas) for a, b in pairwise(samples)),
        "minutes_until_zero": round(samples[-1].at / 60, 1),
    }
    if waits:
        described["clip_seconds"] = {"median": waits[len(waits) // 2], "longest": waits[-1]}
    return described


def _report(cluster: Cluster) -> dict[str, Any]:
    (film,) = (seconds for video, seconds in cluster.latencies if video.owner == "studio")
    pools = {name: _describe(cluster, name) for name in cluster.samples}
    return {"film_minutes": round(film / 60, 1), "pools": pools}


def main() -> None:
    """Runs the benchmark."""
    reports = {}
    for name, by_task in (("autoscaling", False), ("autoscaling-by-task", True)):
        with tempfile.TemporaryDirectory() as folder:
            cluster = _simulate(Path(folder), by_task=by_task)
        _draw(cluster, _PICTURES / f"{name}.png")
        reports["by_task" if by_task else "by_model"] = _report(cluster)
    write_results("autoscaling", {"task_seconds": _TASKS} | reports)


if __name__ == "__main__":
    main()
