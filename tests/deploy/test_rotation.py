"""Secrets that change while the service runs, step by step as docs/deployment.md says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from dovetail_client import Dovetail
from jobs.settings import ServiceSettings
from jobs.webhook_secrets import INSTALLATION
from tests.redis_server import running_redis
from tests.service.conftest import redis_url, running_api, settings, valkey
from tests.service.test_webhook_secrets import is_signed, made

__all__ = ["redis_url", "settings", "valkey"]


def test_receivers_of_webhooks_change_between_two_rollouts(settings: ServiceSettings) -> None:
    old, new = made("o"), made("n")
    rollouts = [(old, ()), (new, (old,)), (new, ())]
    verified = []
    for secret, others in rollouts:
        given = {
            "webhook_secret": SecretStr(secret),
            "webhook_old_secrets": tuple(SecretStr(other) for other in others),
        }
        with running_api(settings.model_copy(update=given)) as api:
            verified.append([is_signed(api, INSTALLATION, known) for known in (old, new)])
    assert verified == [[True, False], [True, True], [False, True]]


@pytest.mark.slow
def test_a_job_goes_on_while_the_password_of_redis_changes(tmp_path: Path) -> None:
    """A second user, a rollout to it, and the first one is turned off."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=8)
    common = {
        "DOVETAIL_STORAGE_URL": str(tmp_path / "storage"),
        "DOVETAIL_ALLOW_STANDINS": "true",
        "DOVETAIL_MODELS": '["bicubic"]',
        "DOVETAIL_SEGMENT_SECONDS": "1",
    }

    def as_user(name: str, password: str) -> Installation:
        operator.execute_command("ACL", "SETUSER", name, "on", f">{password}", "~*", "&*", "+@all")
        url = f"redis://{name}:{password}@127.0.0.1:{server.port}/0"
        return Installation(tmp_path / name, num_workers=1, environment=common, redis_url=url)

    with (
        running_redis() as server,
        redis.Redis(port=server.port) as operator,
        as_user("first", "old") as before,
        Dovetail(before.url) as client,
    ):
        job = client.submit(clip, scale=2, model="standin:sleep=0.02")
        while client.get(job.id).progress == 0:
            time.sleep(0.05)
        with as_user("second", "new") as after, Dovetail(after.url) as other:
            before.stop()
            operator.acl_deluser("first")
            assert other.wait(job.id, timeout=60).status == "completed"
