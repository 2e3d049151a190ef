"""Settings of API and worker processes, from the environment (`DOVETAIL_...`)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.connections import SentinelAddress, names_sentinels
from jobs.queue import SEGMENT, TASK_KINDS, TaskKind
from jobs.setting_values import Duration, Names, TaskKinds, is_loopback, next_database, split_name

GIB = 1 << 30


class CommonSettings(BaseSettings):
    """What every process of one installation must agree on.

    Attributes:
        data_dir: Folder for everything that has no other place: what one request or fetch needs, the embedded
            server's data, and objects unless `storage_url` says otherwise.
        redis_url: Of the store (job records): a server, or its Sentinels as
            redis+sentinel://host:26379,host:26379/service/0.
        queue_redis_url: Of the queue: a database, or a server, of its own. None is the store's server, next
            database.
        storage_url: Folder or `s3://bucket/prefix`; None is a folder in `data_dir`.
        heartbeat_timeout: After so long without a sign of life a process counts as dead and its message goes
            to another one. A worker that is killed alone gives its message back at once; this is for machines
            and containers that vanish. A Redis that is away for longer may make idle workers begin what
            others are at.
        lease_ttl: How long an attempt holds its task without renewing the lease; below `heartbeat_timeout`:
            a message that comes back must find the dead attempt's lease expired.
        max_attempts: Of one task, before its job fails.
        segment_seconds: Length of the parts that survive a kill.
        result_ttl: How long a finished job and its files are kept.
        failed_ttl: The same for failed and cancelled jobs; until then they can be tried again.
        upload_ttl: How long an upload waits for its job.
        min_free_bytes: Room on the disk of `data_dir` that nothing is allowed to take.
        max_input_pixels: Width times height of one frame of an input.
        max_input_seconds: Length of an input.
        models: Names that `dovetail upscale --model` takes, as JSON or separated by commas; the first is the
            default of jobs without a model. NAME=WHERE is a name of your own for one of them, as in
            dove=/models/dove-2024, which stays when folders change. Jobs may name them before any worker has
            started. Without this setting jobs may name what workers have told of, and until the first one
            has, the default.
        sandbox: Whether files must be read in confined processes: require does not start where this machine
            has not what it takes, prefer goes on with what there is. None requires it unless everything is
            on loopback.
    """

    model_config = SettingsConfigDict(env_prefix="DOVETAIL_", extra="ignore", frozen=True)

    data_dir: Path = Path("dovetail-data")
    redis_url: str = "redis://127.0.0.1:6379/0"
    queue_redis_url: str | None = None
    storage_url: str | None = None
    heartbeat_timeout: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=15)
    lease_ttl: Annotated[Duration, Field(ge=timedelta(milliseconds=500))] = timedelta(seconds=10)
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    segment_seconds: Annotated[float, Field(gt=0, le=600)] = 10
    result_ttl: Annotated[Duration, Field(gt=timedelta())] = timedelta(days=7)
    failed_ttl: Annotated[Duration, Field(gt=timedelta())] = timedelta(days=2)
    upload_ttl: Annotated[Duration, Field(gt=timedelta())] = timedelta(days=1)
    min_free_bytes: Annotated[int, Field(ge=0)] = 1 * GIB
    max_input_pixels: Annotated[int, Field(ge=1)] = 8192 * 4320
    max_input_seconds: Annotated[float, Field(gt=0)] = 24 * 3600
    models: Annotated[Names, Field(min_length=1)] = (
        "dovetail-nano-2",
        "dovetail-dit-nano",
        "bicubic",
        "lanczos",
    )
    sandbox: Literal["require", "prefer"] | None = None

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.lease_ttl >= self.heartbeat_timeout:
            raise ValueError(
                f"lease_ttl ({self.lease_ttl.total_seconds():g} s) must be below heartbeat_timeout "
                f"({self.heartbeat_timeout.total_seconds():g} s)"
            )
        return self

    @field_validator("redis_url", "queue_redis_url")
    @classmethod
    def _check_sentinels(cls, value: str | None) -> str | None:
        if value is not None and names_sentinels(value):
            SentinelAddress.parse(value)
        return value

    @field_validator("models")
    @classmethod
    def _check_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = [split_name(entry)[0] for entry in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"models has {', '.join(twice)} more than once; each name is that of one model")
        if bad := [entry for entry in value if not all(split_name(entry))]:
            raise ValueError(f"models has {', '.join(bad)}; write NAME, or NAME=WHERE with both")
        return value

    @property
    def model_sources(self) -> dict[str, str]:
        """What jobs call each model, and what `load_model` calls it; the default first."""
        return dict(map(split_name, self.models))

    @property
    def effective_queue_redis_url(self) -> str:
        """Where the queue is."""
        return self.queue_redis_url or next_database(self.redis_url)

    @property
    def effective_storage_url(self) -> str:
        """Where objects are: an absolute folder or an s3:// address."""
        return self.storage_url or str((self.data_dir / "storage").absolute())

    @property
    def requires_sandbox(self) -> bool:
        """Whether the process may start only where files are read in confined processes."""
        if self.sandbox is not None:
            return self.sandbox == "require"
        return not self._is_local()

    def _is_local(self) -> bool:
        """Whether inputs come from this machine only."""
        if names_sentinels(self.redis_url):
            return all(is_loopback(host) for host, _ in SentinelAddress.parse(self.redis_url).sentinels)
        parts = urlsplit(self.redis_url)
        return parts.scheme == "unix" or is_loopback(parts.hostname or "localhost")


class WorkerSettings(CommonSettings):
    """Settings of `dovetail worker`.

    Attributes:
        only: Kinds of tasks that it takes, as JSON or separated by commas. segment also decides what is made
            of a job; without it no model is loaded and no GPU used. All kinds together must be taken by
            somebody.
        models_dir: Folder of pulled models; None is that of the user, as for `dovetail models`.
        device: auto, cpu, cuda, cuda:1, ...
        dtype: auto, float32, bfloat16 or float16.
        attention: Attention kernel of the models, as for `dovetail upscale --attention`.
        quantize: auto, none, int8 or fp8: what of models is in 8 bits, as for `dovetail upscale --quantize`.
        use_compile: Compile models when they are loaded: minutes at the start, faster from then on.
        use_offload: Keep the parts of a model in host memory while they do not work, for small GPUs.
        work_dir: For files of the running task; None is a temporary folder.
        input_cache_dir: For blocks of inputs that are fetched from S3; the workers of a machine that name the
            same folder share them. None is a folder in that of `work_dir`.
        input_cache_bytes: Most that these blocks may take; those used longest ago go first. 0 keeps none.
        stall_timeout: A worker that runs but says nothing itself, as while native code holds the
            interpreter's lock, counts as dead after so long.
        drain_seconds: How long a stopped worker may take to finish its segment.
        decode_memory_bytes: Memory that decoding one input may take.
        decode_idle_seconds: Longest time without a decoded frame.
        metrics_port: Port of the worker's own `/metrics`; 0 is none.
        allow_standins: Whether jobs may name models that only imitate a GPU's speed; for load tests.
    """

    only: TaskKinds = TASK_KINDS
    models_dir: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    attention: str = "auto"
    quantize: str = "auto"
    use_compile: bool = False
    use_offload: bool = False
    work_dir: Path | None = None
    input_cache_dir: Path | None = None
    input_cache_bytes: Annotated[int, Field(ge=0)] = 8 * GIB
    stall_timeout: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(minutes=5)
    drain_seconds: Annotated[float, Field(ge=0)] = 600
    decode_memory_bytes: Annotated[int, Field(ge=64 << 20)] = 4 * GIB
    decode_idle_seconds: Annotated[float, Field(gt=0)] = 60
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    allow_standins: bool = False

    @field_validator("only")
    @classmethod
    def _check_kinds(cls, value: tuple[TaskKind, ...]) -> tuple[TaskKind, ...]:
        if not value:
            raise ValueError(f"no kind of task is named; write some of {', '.join(TASK_KINDS)}")
        return value

    @property
    def makes_segments(self) -> bool:
        """Whether it needs models."""
        return SEGMENT in self.only


class ServiceSettings(CommonSettings):
    """Settings of the HTTP API.

    Attributes:
        host: Address to listen on.
        port: Port to listen on.
        public_url: How customers reach the server, for absolute links in webhooks; None leaves them relative.
        max_upload_bytes: Of one input.
        max_waiting_jobs: In all queues together; more are refused with 503.
        max_batch_inputs: Of one batch.
        source_hosts: Hosts that https:// sources may name ("example.com", "*.example.com"); none by default.
        source_buckets: Buckets that s3:// sources may name; not the storage's own, where everybody's files
            are.
        target_buckets: Buckets that results may be delivered to at s3:// addresses, with this installation's
            credentials and by every key; not the storage's own.
        allow_private_targets: Whether sources, webhooks and deliveries may name private networks; for tests
            and closed installations.
        webhook_secret: Signs webhooks of jobs without API keys, and of keys from before keys had secrets of
            their own ("whsec_..."); None makes one in the store.
        webhook_old_secrets: Earlier ones, which sign too until receivers have changed.
        webhook_max_attempts: Deliveries of one event before it is given up.
        requests_per_minute: Of one API key, unless the key says otherwise.
        max_requests_at_once: Of one API key in one process, unless the key says otherwise.
        max_streams_at_once: Event streams and growing videos that one API key may have open in one process,
            unless the key says otherwise.
        max_uploads_at_once: Files that one API key may be sending, unless the key says otherwise.
        cors_origins: Web pages of other origins that may call the API.
        num_probes: Uploads that are looked into at the same time.
        storage_public_endpoint: Endpoint of the S3 storage as customers reach it, for signed addresses; None
            is the one of AWS_ENDPOINT_URL.
        redirect_downloads: Whether results come straight from the S3 storage: `/content` answers 307 with an
            address that is signed for six hours. Off, because customers must reach the storage for it, and
            clients must follow redirects (`curl -L`).
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    public_url: str | None = None
    max_upload_bytes: Annotated[int, Field(ge=1)] = 50 * GIB
    max_waiting_jobs: Annotated[int, Field(ge=1)] = 100_000
    max_batch_inputs: Annotated[int, Field(ge=1)] = 10_000
    source_hosts: tuple[str, ...] = ()
    source_buckets: tuple[str, ...] = ()
    target_buckets: tuple[str, ...] = ()
    allow_private_targets: bool = False
    webhook_secret: SecretStr | None = None
    webhook_old_secrets: tuple[SecretStr, ...] = ()
    webhook_max_attempts: Annotated[int, Field(ge=1)] = 10
    requests_per_minute: Annotated[int, Field(ge=1)] = 600
    max_requests_at_once: Annotated[int, Field(ge=1)] = 512
    max_streams_at_once: Annotated[int, Field(ge=1)] = 64
    max_uploads_at_once: Annotated[int, Field(ge=1)] = 64
    cors_origins: tuple[str, ...] = ()
    num_probes: Annotated[int, Field(ge=1)] = 4
    storage_public_endpoint: Annotated[str | None, Field(pattern=r"^https?://[^/\s]+/?$")] = None
    redirect_downloads: bool = False

    def _is_local(self) -> bool:
        return is_loopback(self.host)

    @model_validator(mode="after")
    def _check_redirects(self) -> Self:
        if self.redirect_downloads and not self.effective_storage_url.startswith("s3://"):
            raise ValueError(
                f"redirect_downloads takes a storage in S3; storage_url is {self.effective_storage_url!r}"
            )
        return self

    @model_validator(mode="after")
    def _check_buckets(self) -> Self:
        parts = urlsplit(self.effective_storage_url)
        for name, buckets, danger in (
            ("source_buckets", self.source_buckets, "sources could be files of other customers"),
            ("target_buckets", self.target_buckets, "results could replace files of other customers"),
        ):
            if parts.scheme == "s3" and parts.netloc in buckets:
                raise ValueError(
                    f"{name} must not name {parts.netloc!r}, the bucket of storage_url: {danger}"
                )
        return self
