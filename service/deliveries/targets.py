"""Where results may be delivered to."""

from __future__ import annotations

from jobs.options import JobOptions
from jobs.settings import ServiceSettings
from service.errors import InvalidRequestError
from service.outgoing import SourceRefusedError, check_url

# S3's, in bytes.
_MAX_KEY_BYTES = 1024
_ACCEPTED = "s3://bucket/key, s3://bucket/prefix/ or an https:// address"


class TargetRefusedError(InvalidRequestError):
    """Raised when a result is not to be sent to an address."""

    code, title = "target_refused", "Target refused"


def check_target(settings: ServiceSettings, url: str) -> None:
    """Checks where a result is to go, as far as it goes without asking anybody.

    Args:
        settings: Of the installation.
        url: Of an object, or of a prefix in a bucket.

    Raises:
        TargetRefusedError: If nothing may be sent there.
    """
    if url.startswith("s3://"):
        _check_bucket(settings, url)
        return
    try:
        check_url(url, allow_private=settings.allow_private_targets)
    except SourceRefusedError as error:
        raise _refused(f"{error}; deliver_to takes {_ACCEPTED}") from error


def check_shared_target(settings: ServiceSettings, url: str) -> None:
    """Checks where all results of a batch are to go.

    Raises:
        TargetRefusedError: If nothing may be sent there, or they would replace each other.
    """
    check_target(settings, url)
    if not is_prefix(url):
        raise _refused(
            "the results of a batch would replace each other at one address; give s3://bucket/prefix/, or "
            "each input a deliver_to"
        )


def target_of_job(settings: ServiceSettings, url: str, *, job_id: str, options: JobOptions) -> str:
    """The address of the object that a job's result becomes, see `object_of_job`.

    Raises:
        TargetRefusedError: If it may not be sent there.
    """
    check_target(settings, url)
    return object_of_job(url, job_id=job_id, options=options)


def object_of_job(url: str, *, job_id: str, options: JobOptions) -> str:
    """The address of the object that a job's result becomes: below a prefix, its id. The prefix itself where
    the kind of file depends on a source that is not known yet."""
    is_known = options.container != "auto"
    return f"{url}{job_id}.{options.container}" if is_prefix(url) and is_known else url


def is_prefix(url: str) -> bool:
    """Whether an address names a place for many objects."""
    return url.startswith("s3://") and url.endswith("/")


def parse_target(url: str) -> tuple[str, str]:
    """(bucket, key) of an s3:// address."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def _check_bucket(settings: ServiceSettings, url: str) -> None:
    bucket, key = parse_target(url)
    if bucket not in settings.target_buckets:
        raise _refused(
            f"deliveries to the bucket {bucket!r} are not allowed here; ask who runs this service to allow "
            "it, or give a signed https:// address"
        )
    if not key and not is_prefix(url):
        raise _refused(f"{url!r} names no object; deliver_to takes {_ACCEPTED}")
    # The rest is what not every server and every tool takes for the same name.
    is_odd = any(name in ("", ".", "..") for name in key.removesuffix("/").split("/")) and key != ""
    if is_odd or not key.isprintable() or len(key.encode()) > _MAX_KEY_BYTES:
        raise _refused(
            f"{url[:200]!r} is no name of an object: at most {_MAX_KEY_BYTES} bytes without control "
            "characters, empty parts, '.' and '..'"
        )


def _refused(detail: str) -> TargetRefusedError:
    return TargetRefusedError(
        detail, errors=[{"loc": ["body", "deliver_to"], "message": _ACCEPTED, "received": None}]
    )
