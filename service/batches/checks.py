"""Whether the inputs of a batch can become jobs, and what lies below a prefix."""

from __future__ import annotations

from itertools import islice
from typing import Any

from obstore.exceptions import BaseError

from jobs.batch_records import BatchInput, RejectedInput
from jobs.errors import UploadNotFoundError
from jobs.uploads import UploadStore
from service.auth import Caller
from service.batches.manifests import Line
from service.context import ServiceContext
from service.deliveries.targets import check_shared_target
from service.deliveries.targets import check_target as check_delivery
from service.errors import InvalidRequestError, ServiceError
from service.jobs.submissions import JobSettings
from service.quotas import check_prefix, check_priority
from service.sources.fetching import SourceFailedError, check_source_url, open_bucket, parse_s3
from service.sources.service import require_completed
from service.webhooks.targets import check_target

_LISTED_AT_ONCE = 1000


def check_shared(context: ServiceContext, caller: Caller, settings: JobSettings) -> None:
    """Checks what all jobs of a batch share.

    Raises:
        ServiceError: If the caller may not have it.
    """
    check_priority(caller, settings.priority)
    if settings.webhook is not None:
        check_target(settings.webhook.url, allow_private=context.settings.allow_private_targets)
    if settings.deliver_to is not None:
        check_prefix(caller, settings.deliver_to)
        check_shared_target(context.settings, settings.deliver_to)


def check_count(context: ServiceContext, count: int) -> None:
    """Checks how many inputs there are.

    Raises:
        InvalidRequestError: If there are none, or too many.
    """
    limit = context.settings.max_batch_inputs
    if not 1 <= count <= limit:
        raise InvalidRequestError(
            f"a batch has 1 to {limit} inputs, received {count}",
            errors=[{"loc": ["body", "inputs"], "message": f"1 to {limit}", "received": str(count)}],
        )


def accepted_inputs(
    context: ServiceContext, caller: Caller, inputs: list[BatchInput], lines: list[Line]
) -> tuple[list[BatchInput], list[RejectedInput]]:
    """Inputs that can become jobs, as far as can be told at once, and those that cannot: uploads that are not
    there, sources and targets that are not allowed."""
    uploads = _uploads_of(context, caller, inputs)
    accepted, rejected = [], []
    for item in inputs:
        source = item.source or {}
        try:
            if item.form.get("deliver_to"):
                check_prefix(caller, item.form["deliver_to"])
                check_delivery(context.settings, item.form["deliver_to"])
            if source.get("type") == "url":
                check_prefix(caller, source["url"])
                check_source_url(context.settings, source["url"])
            else:
                upload = uploads.get(source["upload_id"])
                if upload is None:
                    raise UploadNotFoundError(source["upload_id"])
                require_completed(upload)
        except (ServiceError, UploadNotFoundError) as error:
            code = error.problem_code if isinstance(error, ServiceError) else error.code
            rejected.append(
                RejectedInput(
                    index=item.index,
                    line=lines[item.index].number,
                    filename=item.filename,
                    code=code,
                    message=str(error),
                )
            )
        else:
            accepted.append(item)
    return accepted, rejected


def _uploads_of(context: ServiceContext, caller: Caller, inputs: list[BatchInput]) -> dict[str, Any]:
    ids = list({item.source["upload_id"] for item in inputs if item.source and "upload_id" in item.source})
    found = UploadStore(context.client).get_many(ids) if ids else []
    return {upload.id: upload for upload in found if upload is not None and upload.owner == caller.owner}


def lines_below(context: ServiceContext, caller: Caller, prefix: str) -> list[Line]:
    """An input for each object below a prefix.

    Raises:
        ForbiddenError: If the caller's key may not read there.
        SourceRefusedError: If the bucket is not an allowed one.
        SourceFailedError: If it cannot be listed.
        InvalidRequestError: If there are more objects than a batch takes.
    """
    if not prefix.startswith("s3://"):
        raise InvalidRequestError(
            f"prefix is {prefix!r}; give s3://bucket/prefix/",
            errors=[{"loc": ["body", "prefix"], "message": "s3://bucket/prefix/", "received": prefix}],
        )
    check_prefix(caller, prefix)
    bucket, key = parse_s3(context.settings, prefix)
    lines: list[Line] = []
    try:
        for page in open_bucket(bucket).list(key or None, chunk_size=_LISTED_AT_ONCE):
            wanted = (meta["path"] for meta in page if meta["size"] and not meta["path"].endswith("/"))
            # One more than accepted is enough to know that they are too many.
            room = context.settings.max_batch_inputs + 1 - len(lines)
            lines += [
                Line(None, {"source": {"type": "url", "url": f"s3://{bucket}/{path}"}})
                for path in islice(wanted, room)
            ]
            if room <= 0:
                break
    except (BaseError, OSError) as error:
        raise SourceFailedError(f"{prefix!r} cannot be listed") from error
    return lines
