"""The images: small, without privileges, whole, and stopped by SIGTERM."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dovetail_client import Dovetail
from media.sandbox import _landlock
from tests.deploy.containers.docker import (
    HARDENED,
    ROOT,
    docker,
    inspect,
    published_address,
    running,
    wait_until_healthy,
)

pytestmark = [
    pytest.mark.needs_docker,
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("images"),
]

MB = 1_000_000
LARGEST = {"dovetail-api": 500 * MB, "dovetail-worker": 1600 * MB, "dovetail-all": 1600 * MB}


@pytest.fixture
def volume(docker_host: None) -> Iterator[str]:
    name = f"dovetail-test-{uuid.uuid4().hex[:8]}"
    yield name
    docker("volume", "rm", "--force", name)


@pytest.mark.parametrize("image", LARGEST)
def test_image_is_small_and_runs_as_nobody_in_particular(image: str) -> None:
    found = inspect(image)
    assert found["Size"] <= LARGEST[image]
    assert found["Config"]["User"] == "10001:0"
    assert found["Config"]["Healthcheck"]["Test"]
    assert found["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    tools = "import shutil; print([n for n in ('gcc', 'pip', 'pip3', 'make') if shutil.which(n)])"
    ran = docker("run", "--rm", *HARDENED, "--entrypoint", "python3", image, "-c", tools)
    assert ran.stdout.strip() == "[]"


def test_api_image_has_no_torch_and_explains_a_missing_model_package() -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'diffusers') if u.find_spec(n)])"
    ran = docker("run", "--rm", "--entrypoint", "/opt/dovetail/bin/python", "dovetail-api", "-c", code)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "own",
    [(), ("--user", "1234567:0", "--env", 'DOVETAIL_MODELS=["bicubic"]')],
    ids=["its own user", "any user, few models"],
)
def test_everything_in_one_container(own: tuple[str, ...], volume: str, clip: Path) -> None:
    """As the Dockerfile says: the key is in the log, a job runs, and all is there after a restart."""
    arguments = (*HARDENED, "--publish", "127.0.0.1::8000", "--volume", f"{volume}:/data", *own)
    with running(*arguments, "dovetail-all") as name:
        wait_until_healthy(name)
        key = docker("exec", name, "cat", "/data/api-key").stdout.strip()
        assert f"API key: {key}" in docker("logs", name).stderr
        with Dovetail(published_address(name), api_key=key) as client:
            job = client.wait(client.submit(clip, scale=2, model="bicubic").id, timeout=120)
            assert job.status == "completed"
        docker("stop", "--time", "60", name, timeout=90)
        assert inspect(name)["State"]["ExitCode"] == 0
    with running(*arguments, "dovetail-all") as name:
        wait_until_healthy(name)
        assert "the API key is in /data/api-key" in docker("logs", name).stderr
        with Dovetail(published_address(name), api_key=key) as client:
            assert client.get(job.id).status == "completed"


def test_limits_of_the_container_are_those_of_the_plan() -> None:
    code = (
        "from pipelines.planning.host import host_memory, usable_cpus; import json, workers.run.stages;"
        "print(json.dumps([host_memory().total_bytes, usable_cpus(), workers.run.stages._MODEL_THREADS]))"
    )
    ran = docker(
        *("run", "--rm", "--memory", "1g", "--cpus", "1", *HARDENED),
        *("--entrypoint", "/opt/dovetail/bin/python", "dovetail-worker", "-c", code),
    )
    assert json.loads(ran.stdout) == [1 << 30, 1, 1]


def test_open_to_others_without_a_key_it_does_not_start(volume: str) -> None:
    ran = docker(
        "run", "--rm", *HARDENED, "--volume", f"{volume}:/data", "dovetail-all", "serve", check=False
    )
    assert ran.returncode == 2
    assert "there are no API keys" in ran.stderr


_ACTS = """
import contextlib, json, sys
from pathlib import Path
from media.errors import SandboxError
from media.sandbox import Sandbox
from tests.media import sandbox_acts as acts

secret = Path("/data/secret")
secret.write_text("key")
with Sandbox(preload=["tests.media.sandbox_acts"]) as sandbox:
    assert sandbox.call(acts.add, 2, 3, timeout=60) == 5
    for act, *arguments in (
        (acts.open_socket, 2),
        (acts.open_socket, 1),
        (acts.execute,),
        (acts.fork,),
        (acts.signal_parent,),
        (acts.trace_parent,),
        (acts.read_file, str(secret)),
        (acts.write_file, "/tmp/left"),
    ):
        with contextlib.suppress(SandboxError):
            sandbox.call(act, *arguments, timeout=60)
            sys.exit(f"{act.__name__}{arguments} was let through")
    print(json.dumps(sandbox.missing()))
"""


@pytest.mark.parametrize("image", ["dovetail-api", "dovetail-worker"])
def test_a_file_that_took_over_its_reader_reaches_nothing(image: str) -> None:
    """Reading files is confined in a container without capabilities, by seccomp and, where the kernel has it,
    Landlock."""
    ran = docker(
        *("run", "--rm", *HARDENED, "--network", "none", "--tmpfs", "/data:uid=10001"),
        *("--volume", f"{ROOT / 'tests'}:/checkout/tests:ro", "--env", "PYTHONPATH=/checkout"),
        *("--entrypoint", "/opt/dovetail/bin/python", image, "-c", _ACTS),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == ([] if _landlock.is_supported() else ["landlock"])
