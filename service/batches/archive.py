"""All results of a batch in one ZIP, made while it is sent: no file is written, and little is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from zipstream import ZIP_STORED, ZipStream

from jobs.batch_store import BatchStore
from jobs.records import Job, JobState, OutputInfo
from jobs.storage import Storage
from service.batches.service import jobs_of_batch
from service.context import ServiceContext
from service.errors import NotReadyError

_PIECE_BYTES = 1 << 20
_MAX_STEM = 150


def open_archive(context: ServiceContext, batch_id: str) -> ZipStream:
    """The results that are there now, in the order of the inputs. Blocking.

    Stored and not deflated: video does not get smaller. So its length is known before.

    Raises:
        NotReadyError: If there are none yet.
    """
    archive = ZipStream(compress_type=ZIP_STORED, sized=True)
    names: set[str] = set()
    for job, output in _finished(context, batch_id):
        name = unique_name(job.spec.filename, names, container=job.spec.options.container)
        pieces = _pieces(context.storage, output.key, output.size_bytes)
        archive.add(pieces, name, size=output.size_bytes)
    if not names:
        raise NotReadyError("none of the batch's jobs is completed yet", retry_after_seconds=10)
    return archive


def unique_name(filename: str, taken: set[str], *, container: str = "mp4") -> str:
    """A name in the archive for a result, and no folder above it; added to `taken`.

    Args:
        filename: What the customer calls the input.
        taken: Names there are, in lower case.
        container: Of the result.
    """
    stem = PurePosixPath(filename).stem.strip(". ")[:_MAX_STEM] or "video"
    # Also on systems whose folders do not tell upper from lower case, or that keep some characters.
    stem = "".join("_" if c in '<>:"/\\|?*' else c for c in stem)
    name, number = f"{stem}.{container}", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}.{container}"
    taken.add(name.lower())
    return name


def _finished(context: ServiceContext, batch_id: str) -> Iterator[tuple[Job, OutputInfo]]:
    for job in jobs_of_batch(context, BatchStore(context.client).job_ids(batch_id)):
        if job.state is JobState.COMPLETED and job.output is not None:
            yield job, job.output


def _pieces(storage: Storage, key: str, size_bytes: int) -> Iterable[bytes]:
    for offset in range(0, size_bytes, _PIECE_BYTES):
        yield storage.get_bytes(key, offset=offset, length=min(_PIECE_BYTES, size_bytes - offset))
