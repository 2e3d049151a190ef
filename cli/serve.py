"""`dovetail serve` and `dovetail api`: the service on one machine, and its HTTP part alone."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import UsageError, reported_errors
from cli.sandboxing import check_sandbox

if TYPE_CHECKING:
    from fastapi import FastAPI

    from jobs.settings import ServiceSettings

# One of several API processes that says nothing for so long is ended, and started anew.
_HANGING_SECONDS = 30

Host = Annotated[
    str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.", show_default=False)
]
Port = Annotated[int | None, typer.Option(help="Port to listen on. Default: 8000.", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for uploads, results and job records. Default: dovetail-data.", show_default=False
    ),
]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    num_workers: Annotated[
        int, typer.Option("--workers", min=0, help="Workers on this machine; one per GPU.")
    ] = 1,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device of the worker; with several workers and GPUs each takes its own.", show_default=False
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret of an API key; one is made and written there where it is missing.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the whole service on this machine: API, web page, queue and workers.

    Needs no other server. DOVETAIL_REDIS_URL and DOVETAIL_STORAGE_URL point it at real ones.
    """
    with reported_errors():
        settings = _settings(host, port, data_dir)
        from cli._supervisor import Child, Supervisor, child_environment, python_command

        with _locked(settings.data_dir):
            url, keep_redis, stop_redis = _redis(settings.data_dir)
            settings = settings.model_copy(update={"redis_url": url})
            if key_file is not None:
                _ensure_key(settings, key_file)
            _check_exposure(settings)
            _check_port(settings.host, settings.port)
            environment = child_environment(
                {
                    "DOVETAIL_REDIS_URL": url,
                    "DOVETAIL_DATA_DIR": str(settings.data_dir.absolute()),
                    "DOVETAIL_HOST": settings.host,
                    "DOVETAIL_PORT": str(settings.port),
                    # Workers do not see where the API listens.
                    "DOVETAIL_SANDBOX": "require" if settings.requires_sandbox else "prefer",
                }
            )
            parent = ["--parent-pid", str(os.getpid())]
            drain = float(os.environ.get("DOVETAIL_DRAIN_SECONDS", "600"))
            workers = [
                Child(
                    f"worker {number + 1}" if num_workers > 1 else "worker",
                    python_command("worker", *parent, *_device_arguments(device, number, num_workers)),
                    environment,
                    drain + 30,
                )
                for number in range(num_workers)
            ]
            api = Child("API", python_command("api", *parent), environment, 30)
            typer.echo(f"Dovetail listens on http://{_shown(settings.host)}:{settings.port}", err=True)
            typer.echo(f"data: {settings.data_dir.absolute()}", err=True)
            try:
                Supervisor([*workers, api], keep_services=keep_redis, say=_say).run()
            finally:
                stop_redis()


def api(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    num_processes: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that answer requests at this port.")
    ] = 1,
    parent_pid: Annotated[
        int | None, typer.Option(hidden=True, help="End when this process is gone.")
    ] = None,
) -> None:
    """Run the HTTP API alone; workers run with `dovetail worker`."""
    with reported_errors():
        settings = _settings(host, port, data_dir)
        _check_exposure(settings)
        import uvicorn
        from redis import RedisError

        from cli._logging import configure_logging
        from cli._parent import end_with_parent
        from jobs.connections import refuse_cluster
        from jobs.errors import StoreUnavailableError
        from media.sandbox import shared_sandbox

        configure_logging()
        if parent_pid is not None:
            end_with_parent(parent_pid)
        check_sandbox(shared_sandbox("probe"), is_required=settings.requires_sandbox)
        for url in (settings.redis_url, settings.effective_queue_redis_url):
            with suppress(
                StoreUnavailableError, RedisError
            ):  # requests are answered with 503 until it is there
                refuse_cluster(url)
        serving: dict[str, Any] = {
            "host": settings.host,
            "port": settings.port,
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "timeout_keep_alive": 65,
            # Streams of unfinished jobs would hold a stopping server for hours.
            "timeout_graceful_shutdown": 10,
        }
        if num_processes == 1:
            uvicorn.run(_application(settings), **serving)
            return
        os.environ |= {
            "DOVETAIL_HOST": settings.host,
            "DOVETAIL_PORT": str(settings.port),
            "DOVETAIL_DATA_DIR": str(settings.data_dir.absolute()),
        }
        with TemporaryDirectory(prefix="dovetail-metrics-") as folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # where prometheus_client adds them up
            uvicorn.run(
                "cli.serve:application_of_many",
                factory=True,
                workers=num_processes,
                timeout_worker_healthcheck=_HANGING_SECONDS,
                **serving,
            )


def application_of_many() -> FastAPI:
    """The application of one of several processes; uvicorn asks for it in each."""
    from cli._logging import configure_logging
    from cli._parent import end_with_parent

    configure_logging()
    end_with_parent(os.getppid())
    return _application(_settings(None, None, None))


def _application(settings: ServiceSettings) -> FastAPI:
    from jobs.setting_values import is_loopback
    from service.app import create_app_of_process

    return create_app_of_process(settings, uses_keys=not is_loopback(settings.host))


def _settings(host: str | None, port: int | None, data_dir: Path | None) -> ServiceSettings:
    try:
        from jobs.settings import ServiceSettings
    except ImportError as error:
        raise UsageError(f"{error.name} is missing: pip install 'dovetail-vsr[serve]'") from error
    from cli._settings import read_settings

    return read_settings(ServiceSettings, {"host": host, "port": port, "data_dir": data_dir})


def _redis(data_dir: Path) -> tuple[str, Callable[[], None], Callable[[], None]]:
    """Address of Redis, what keeps it running, and what stops it."""
    url = os.environ.get("DOVETAIL_REDIS_URL")
    if url:
        return url, _nothing, _nothing
    from jobs.embedded_redis import EmbeddedRedis

    embedded = EmbeddedRedis(data_dir / "redis")
    embedded.ensure_running()

    def keep_running() -> None:
        if embedded.ensure_running():
            _say("the embedded Redis had ended and was started again")

    return embedded.url, keep_running, embedded.stop


def _has_keys(settings: ServiceSettings) -> bool:
    from jobs.api_keys import ApiKeyStore
    from jobs.connections import impatient_client

    client = impatient_client(settings.redis_url)
    try:
        return ApiKeyStore(client).has_any()
    finally:
        client.close()


def _ensure_key(settings: ServiceSettings, path: Path) -> None:
    """Makes a key of the secret in a file; shows a secret that was made for it, once."""
    from cli.keys import read_or_make_secret
    from jobs.api_keys import ApiKeyStore
    from jobs.connections import impatient_client

    secret, is_made = read_or_make_secret(path)
    with impatient_client(settings.redis_url) as client:
        ApiKeyStore(client).ensure("first key", secret)
    _say(f"API key: {secret}, kept in {path}" if is_made else f"the API key is in {path}")


def _check_exposure(settings: ServiceSettings) -> None:
    """Refuses to listen where others can reach it as long as anybody could use it.

    Raises:
        UsageError: If there are no keys and the address is not loopback.
    """
    from jobs.setting_values import is_loopback

    if not is_loopback(settings.host) and not _has_keys(settings):
        raise UsageError(
            f"{settings.host} can be reached from other machines and there are no API keys; create one with "
            "'dovetail keys create NAME' first, or listen on 127.0.0.1"
        )


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from error


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Makes sure that one `serve` only works in a folder."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / "serve.lock").open("a+")
    except OSError as error:
        raise UsageError(f"cannot use the folder {data_dir}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another 'dovetail serve' works in {data_dir}; stop it, or choose another --data-dir"
            ) from error
        except OSError as error:
            _say(f"{data_dir} has no locks ({error.strerror}): start no other 'dovetail serve' in it")
        yield


def _device_arguments(device: str | None, number: int, num_workers: int) -> list[str]:
    if device is not None:
        return ["--device", device]
    # Several workers on one machine mean one per GPU; a machine without takes them all on its CPU.
    return ["--device-index", str(number)] if num_workers > 1 else []


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _say(message: str) -> None:
    print(f"dovetail serve: {message}", file=sys.stderr, flush=True)  # noqa: T201 - logging is the children's


def _nothing() -> None:
    return
