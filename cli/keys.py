"""`dovetail keys`: who may use the API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import UsageError, reported_errors

if TYPE_CHECKING:
    import redis

    from jobs.api_keys import ApiKey, ApiKeyStore, Scope

keys = typer.Typer(help="Create, list, rotate and revoke API keys.", no_args_is_help=True)

DataDir = Annotated[
    Path,
    typer.Option(
        help="Folder of the service, where DOVETAIL_REDIS_URL is not set.", envvar="DOVETAIL_DATA_DIR"
    ),
]
Scopes = Annotated[
    list[str] | None,
    typer.Option(help="jobs:read, jobs:write, metrics:read or admin; may be repeated. Default: both jobs."),
]
_DEFAULT_DATA_DIR = Path("dovetail-data")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="For people: who or what uses the key.")],
    scope: Scopes = None,
    days: Annotated[int | None, typer.Option(min=1, help="Days until it expires. Default: never.")] = None,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="0: the server's setting.")] = 0,
    max_unfinished_jobs: Annotated[int, typer.Option(min=0, help="0: any number.")] = 0,
    max_upload_bytes: Annotated[int, typer.Option(min=0, help="0: the server's setting.")] = 0,
    max_output_pixels: Annotated[
        int, typer.Option(min=0, help="Width times height times frames of one result; 0: any.")
    ] = 0,
    max_requests_at_once: Annotated[
        int, typer.Option(min=0, help="Being answered by one API process; 0: the server's setting.")
    ] = 0,
    max_streams_at_once: Annotated[
        int, typer.Option(min=0, help="Open event streams and growing videos; 0: the server's setting.")
    ] = 0,
    max_uploads_at_once: Annotated[
        int, typer.Option(min=0, help="Unfinished uploads; 0: the server's setting.")
    ] = 0,
    max_stored_bytes: Annotated[
        int, typer.Option(min=0, help="Uploads, inputs, segments and results together; 0: any.")
    ] = 0,
    weight: Annotated[
        int, typer.Option(min=1, max=100, help="Share of the workers beside keys of other weights.")
    ] = 1,
    priority: Annotated[
        list[str] | None,
        typer.Option(help="high, normal or low, that its jobs may have; may be repeated. Default: all."),
    ] = None,
    s3_prefix: Annotated[
        list[str] | None,
        typer.Option(
            help="s3://bucket/prefix/ below which its sources and deliveries lie, of the buckets that the "
            "server allows; may be repeated. Default: all."
        ),
    ] = None,
    use_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    data_dir: DataDir = _DEFAULT_DATA_DIR,
) -> None:
    """Create a key and show it, once."""
    with reported_errors(), _store(data_dir) as store:
        from pydantic import ValidationError

        from jobs.api_keys import KeyLimits
        from jobs.specs import Priority

        try:
            priorities = tuple(Priority(text) for text in priority or ())
        except ValueError as error:
            raise UsageError(f"{error}; priorities are {', '.join(Priority)}") from error
        try:
            limits = KeyLimits(
                requests_per_minute=requests_per_minute,
                max_unfinished_jobs=max_unfinished_jobs,
                max_upload_bytes=max_upload_bytes,
                max_output_pixels=max_output_pixels,
                max_requests_at_once=max_requests_at_once,
                max_streams_at_once=max_streams_at_once,
                max_uploads_at_once=max_uploads_at_once,
                max_stored_bytes=max_stored_bytes,
                weight=weight,
                priorities=priorities,
                s3_prefixes=tuple(s3_prefix or ()),
            )
        except ValidationError as error:  # of the prefixes: the ranges of the others are the options' own
            received = error.errors()[0]["input"]
            raise UsageError(
                f"--s3-prefix takes s3://bucket/ or s3://bucket/prefix/, received {received!r}"
            ) from error
        key, secret = store.create(
            name,
            scopes=_scopes(scope),
            limits=limits,
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
    if use_json:
        typer.echo(json.dumps({"key": secret, **key.model_dump(mode="json")}, indent=2))
        return
    typer.echo(secret)
    typer.echo(f"{key.id} ({key.name}): keep it, it is not shown again. From the first key on,", err=True)
    typer.echo("running servers ask for one.", err=True)


@keys.command()
def ensure(
    name: Annotated[str, typer.Argument(help="For people, where the key is made: who or what uses it.")],
    secret_file: Annotated[
        Path, typer.Option(help="File with the secret; where there is none, one is made and written there.")
    ],
    scope: Scopes = None,
    data_dir: DataDir = _DEFAULT_DATA_DIR,
) -> None:
    """Make sure that there is a key of the secret in a file; harmless when repeated.

    For installations whose secrets come from outside (Kubernetes, Compose), and for first starts.
    """
    with reported_errors(), _store(data_dir) as store:
        secret, is_made = read_or_make_secret(secret_file)
        key, is_new = store.ensure(name, secret, scopes=_scopes(scope))
    if is_made:
        typer.echo(secret)
    typer.echo(f"{key.id} ({key.name}) {'made' if is_new else 'is there'}; secret in {secret_file}", err=True)


def read_or_make_secret(path: Path) -> tuple[str, bool]:
    """The secret in a file, and whether it was made now because there was no file.

    Raises:
        UsageError: If the file can be neither read nor written.
    """
    from jobs.key_secrets import new_secret

    try:
        return path.read_text().strip(), False
    except FileNotFoundError:
        secret = new_secret()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read a secret from {path}: {error}") from error
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret + "\n")
    except FileExistsError:
        return path.read_text().strip(), False
    except OSError as error:
        raise UsageError(f"cannot write a secret to {path}: {error.strerror}") from error
    return secret, True


@keys.command("list")
def list_keys(
    use_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    data_dir: DataDir = _DEFAULT_DATA_DIR,
) -> None:
    """List all keys, without their secrets."""
    with reported_errors(), _store(data_dir) as store:
        found = store.list()
    if use_json:
        typer.echo(json.dumps([key.model_dump(mode="json") for key in found], indent=2))
        return
    for key in found:
        typer.echo(_line(key))
    if not found:
        typer.echo("there are no keys; create one with 'dovetail keys create NAME'", err=True)


@keys.command()
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Of the key, as 'list' shows it.")],
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=720, help="How long the present secret works too.")
    ] = 24,
    secret_file: Annotated[
        Path | None,
        typer.Option(help="File with the new secret; where there is none, one is made and written there."),
    ] = None,
    data_dir: DataDir = _DEFAULT_DATA_DIR,
) -> None:
    """Give a key a new secret and show it, once. Its jobs, limits and webhooks stay as they are."""
    with reported_errors(), _store(data_dir) as store:
        given, is_made = (None, True) if secret_file is None else read_or_make_secret(secret_file)
        key, secret = store.rotate(key_id, overlap=timedelta(hours=overlap_hours), secret=given)
    if is_made:
        typer.echo(secret)
    typer.echo(f"{key.id} ({key.name}) has a new secret; the old one works for {overlap_hours:g} h", err=True)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Of the key, as 'list' shows it.")],
    data_dir: DataDir = _DEFAULT_DATA_DIR,
) -> None:
    """Make a key useless, at once. Its jobs stay until they expire."""
    with reported_errors(), _store(data_dir) as store:
        key = store.revoke(key_id)
    typer.echo(f"revoked {key.id} ({key.name})", err=True)


@keys.command("webhook-secret")
def webhook_secret(
    key_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Of the key. Without, of the installation, for jobs without keys."),
    ] = None,
    use_rotation: Annotated[bool, typer.Option("--rotate", help="Make a new one first.")] = False,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=720, help="How long the present one signs too.")
    ] = 24,
    data_dir: DataDir = _DEFAULT_DATA_DIR,
) -> None:
    """Show the secret that signs webhooks; owners of keys also get it from GET /v1/webhooks/secret."""
    with reported_errors(), _client(data_dir) as client:
        from jobs.api_keys import ApiKeyStore
        from jobs.webhook_secrets import INSTALLATION, WebhookSecretStore

        if key_id is not None and key_id not in {key.id for key in ApiKeyStore(client).list()}:
            raise UsageError(f"there is no key {key_id!r}; 'dovetail keys list' shows all")
        owner, store = key_id or INSTALLATION, WebhookSecretStore(client)
        if use_rotation:
            store.rotate(owner, overlap=timedelta(hours=overlap_hours))
        typer.echo(store.ensure(owner).secret)


def _scopes(texts: list[str] | None) -> tuple[Scope, ...]:
    from jobs.api_keys import Scope

    try:
        return tuple(Scope(text) for text in texts) if texts else (Scope.READ, Scope.WRITE)
    except ValueError as error:
        raise UsageError(f"{error}; scopes are {', '.join(Scope)}") from error


@contextmanager
def _store(data_dir: Path) -> Iterator[ApiKeyStore]:
    from jobs.api_keys import ApiKeyStore

    with _client(data_dir) as client:
        yield ApiKeyStore(client)


@contextmanager
def _client(data_dir: Path) -> Iterator[redis.Redis]:
    from jobs.connections import impatient_client

    url, stop = os.environ.get("DOVETAIL_REDIS_URL"), None
    if not url:
        from jobs.embedded_redis import EmbeddedRedis

        embedded = EmbeddedRedis(data_dir / "redis")
        if embedded.ensure_running():
            stop = embedded.stop
        url = embedded.url
    try:
        with impatient_client(url) as client:
            yield client
    finally:
        if stop is not None:
            stop()


def _line(key: ApiKey) -> str:
    ends = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d}"
    limits = ", ".join(
        f"{name}={'+'.join(value) if isinstance(value, tuple) else value}"
        for name, value in key.limits.model_dump(exclude_defaults=True).items()
    )
    return f"{key.id}  {key.hint}...  {','.join(key.scopes)}  expires {ends}  {key.name}  {limits}".rstrip()
