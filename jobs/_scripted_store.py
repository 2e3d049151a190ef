"""What all parts of the job store are made of: a client, its scripts, and what their answers mean."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import redis

from jobs._record_format import job_of
from jobs._scripts import attempts, deliveries, lifecycle, segments
from jobs.durable import run_durably
from jobs.errors import JobNotFoundError, JobStateError, LostLeaseError
from jobs.records import Job

_SCRIPTS = {
    lifecycle: ("CREATE", "COMPLETE", "FAIL", "CANCEL", "RETRY", "DELETE"),
    attempts: ("BEGIN", "RENEW", "END", "SET_FIELDS", "FETCHED"),
    segments: ("APPEND_PLAN", "PUBLISH", "ADVANCE"),
    deliveries: ("ASK_DELIVERY", "NOTE_DELIVERY", "CLOSE_DELIVERY", "DUE_DELIVERIES"),
}


class ScriptedStore:
    """Runs the scripts of `jobs._scripts`. Thread-safe.

    Args:
        client: A Redis client without `decode_responses`.
    """

    def __init__(self, client: redis.Redis) -> None:
        # redis-py types its answers as the union of what any setting gives; ours are always bytes.
        self.client: Any = client
        self._scripts = {
            name: client.register_script(getattr(module, name))
            for module, names in _SCRIPTS.items()
            for name in names
        }

    def _run(self, name: str, *arguments: Any) -> Any:
        return self._scripts[name](args=arguments)

    def _run_durably(self, name: str, *arguments: Any) -> Any:
        return run_durably(self._scripts[name], args=arguments)

    def _run_once(self, name: str, *arguments: Any) -> Any:
        """Runs a script that tells by its last argument whether this call has run before."""
        return self._run(name, *arguments, secrets.token_hex(8))


def require_job(job_id: str, values: Sequence[bytes | None], owner: str | None) -> Job:
    """The job that the values of `jobs._record_format.FIELDS` make.

    Raises:
        JobNotFoundError: If there is none, or it is not the owner's.
    """
    job = job_of(job_id, values)
    if job is None or (owner is not None and job.spec.owner != owner):
        raise JobNotFoundError(job_id)
    return job


def require_lease(job_id: str, task: str, outcome: str) -> None:
    """Reads the answer of a script that needs a lease.

    Raises:
        LostLeaseError: If the attempt does not hold it.
    """
    if outcome != "ok":
        reason = {
            "gone": "the job was deleted",
            "stopped": "the job has ended or is being cancelled",
            "lost": "another attempt has taken over",
        }[outcome]
        raise LostLeaseError(f"{task} of {job_id} is not to be continued: {reason}")


def require_changed(job_id: str, outcome: str, verb: str) -> None:
    """Reads the answer of a script that changes a job's state.

    Raises:
        JobNotFoundError: If there is no such job.
        JobStateError: If its state does not allow it.
    """
    if outcome == "gone":
        raise JobNotFoundError(job_id)
    if outcome != "ok":
        raise JobStateError(f"job {job_id} is {outcome} and cannot be {verb}")
