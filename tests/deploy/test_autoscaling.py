"""Pools of workers that follow the gauge as the chart tells KEDA to, with the real store and queue."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml

from benchmarks.keda_rules import Pool
from benchmarks.simulated_cluster import Cluster, Video, turns
from jobs.connections import patient_client
from jobs.queue import JobQueue
from jobs.store import JobStore
from tests.deploy.chart import CHART
from tests.redis_server import RedisServer, redis_server, session_redis

__all__ = ["redis_server", "session_redis"]

AUTOSCALING = yaml.safe_load((CHART / "values.yaml").read_text())["worker"]["autoscaling"]
TASKS = {"plan": 4.0, "segment": 30.0, "join": 5.0}
LARGE = Pool("large", ("large",), AUTOSCALING, TASKS, start_seconds=120)
SMALL = Pool("small", ("usual", "small"), AUTOSCALING, TASKS, start_seconds=20)


@pytest.fixture
def make_cluster(redis_server: RedisServer) -> Callable[..., Cluster]:
    def make(*pools: Pool) -> Cluster:
        client, queue_client = patient_client(redis_server.url), patient_client(redis_server.queue_url)
        models = ("usual", "small", "large")
        return Cluster(JobStore(client), JobQueue(queue_client), pools, models=models)

    return make


def test_pools_follow_a_film_and_clips_from_zero_and_back(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(LARGE, SMALL)
    film = Video(30, "studio", "large", 1800)
    # With a pause in which pods are not worth ending.
    times = [600 + 5 * n for n in range(8)] + [850 + 5 * n for n in range(8)]
    clips = [Video(at, "others", "large" if n % 2 else "small", 20) for n, at in enumerate(times)]
    cluster.run([film, *clips])

    assert len(cluster.latencies) == 17, "nothing is left over"
    for name, model in (("large", "large"), ("small", "small")):
        samples = cluster.samples[name]
        assert turns(samples) == 2, "it grew once and shrank once"
        assert samples[-1].pods == 0
        begun = min(video.at for video in (film, *clips) if video.model == model)
        assert all(sample.pods == 0 for sample in samples if sample.at < begun), "only for its own work"
        # Nobody goes while there is enough for everybody.
        for before, after in itertools.pairwise(samples):
            assert after.replicas >= before.replicas or before.wanted < before.replicas * 4
    assert max(sample.replicas for sample in cluster.samples["large"]) == AUTOSCALING["max"]
    assert cluster.idle_seconds["large"] < 0.25 * cluster.busy_seconds["large"]
    waits = [seconds for video, seconds in cluster.latencies if video is not film]
    assert max(waits) < 600, "clips do not wait for the film"


def test_each_pool_lives_as_long_as_there_is_work_of_its_kind(make_cluster: Callable[..., Cluster]) -> None:
    """A GPU is not kept for joins, and what joins comes for them."""
    slow_joins = TASKS | {"join": 3600.0}
    gpus = Pool("gpus", ("large",), AUTOSCALING, slow_joins, start_seconds=120, only=("segment",))
    cheap = replace(gpus, name="cheap", models=(), start_seconds=20, only=("plan", "join"))
    cluster = make_cluster(gpus, cheap)
    cluster.run([Video(0, "studio", "large", 600)])
    assert len(cluster.latencies) == 1
    ends = {name: max(s.at for s in samples if s.pods) for name, samples in cluster.samples.items()}
    assert ends["gpus"] < ends["cheap"] - 3000
    assert cluster.busy_seconds["gpus"] == 4 + 60 * 30, "it decides, and makes 60 segments"
    assert max(sample.replicas for sample in cluster.samples["gpus"]) == AUTOSCALING["max"]
    assert max(sample.replicas for sample in cluster.samples["cheap"]) == 1
