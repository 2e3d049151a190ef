"""The names of everything in the store's database but the queue's messages, which are `jobs.messages`'s own.

Scripts get the same names as functions: `key_job_leases(id)` in a script is `JOB_LEASES(id)` here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """A name with places for ids in it."""

    template: str

    def __call__(self, *ids: object) -> str:
        """The name with these ids."""
        return self.template.format(*ids)

    def to_lua(self, name: str) -> str:
        """A function of a script that gives the same."""
        arguments = [f"id{number}" for number in range(self.template.count("{}"))]
        # "dv:job:" .. id0 .. ":plan"
        parts = "'" + self.template.format(*(f"' .. {argument} .. '" for argument in arguments)) + "'"
        expression = parts.removesuffix(" .. ''")
        return f"local function {name}({', '.join(arguments)}) return {expression} end\n"


# A job's record, and what workers exchange of it while it is unfinished.
JOB = Key("dv:job:{}")
JOB_PLAN = Key("dv:job:{}:plan")
JOB_SEGMENTS = Key("dv:job:{}:segments")
JOB_PARTIAL = Key("dv:job:{}:partial")  # frames of running attempts
JOB_ENQUEUED = Key("dv:job:{}:enqueued")  # segments that are given to the queue and not published
JOB_LEASES = Key("dv:job:{}:leases")
JOB_ATTEMPTS = Key("dv:job:{}:attempts")  # made so far, by task
JOB_ANNOUNCED = Key("dv:job:{}:announced")  # attempts whose workers were told to stop
JOB_FAILED_ON = Key("dv:job:{}:failed_on")
JOB_HANDED_ON = Key("dv:job:{}:handed_on")
EVENTS = Key("dv:events:{}")  # also the channel that tells of each
ALL_EVENTS = Key("dv:events")  # nothing is said there, but who listens must listen to something

RESULT_DELIVERIES = Key("dv:deliveries")  # jobs whose results are still to be sent

# Indices of jobs.
JOBS_OF = Key("dv:jobs:{}")
JOBS_IN_STATE = Key("dv:jobs:{}:state:{}")
JOBS_LABELLED = Key("dv:jobs:{}:label:{}")  # "name:value"
WAITING = Key("dv:waiting:{}")  # by priority
ACTIVE = Key("dv:active")
EXPIRING = Key("dv:expiring")
COUNTS = Key("dv:counts")
FINISHED = Key("dv:finished")
FAILURES = Key("dv:failures")  # failed jobs since the beginning, by the code of their error
DELIVERIES_ENDED = Key("dv:deliveries:ended")  # by how they ended

# What customers have stored: jobs that read an object, and bytes of an owner.
INPUT_USERS = Key("dv:input:{}")
STORED = Key("dv:stored:{}")

BATCH = Key("dv:batch:{}")
BATCH_INPUTS = Key("dv:batch:{}:inputs")
BATCH_DECIDED = Key("dv:batch:{}:decided")
BATCH_REJECTED = Key("dv:batch:{}:rejected")
BATCH_COUNTS = Key("dv:batch:{}:counts")
BATCH_JOBS = Key("dv:batch:{}:jobs")
BATCH_INTAKE = Key("dv:batch:{}:intake")  # the lock of the process that makes its jobs
BATCH_INTAKE_ASKED = Key("dv:batch:{}:intake:asked")
BATCHES_OF = Key("dv:batches:{}")
BATCHES_ACTIVE = Key("dv:batches:active")
BATCHES_EXPIRING = Key("dv:batches:expiring")

UPLOAD = Key("dv:upload:{}")
UPLOAD_LOCK = Key("dv:upload:{}:lock")
UPLOAD_PARTS = Key("dv:upload:{}:parts")
UPLOADS_EXPIRING = Key("dv:uploads:expiring")
UPLOADS_UNFINISHED = Key("dv:uploads:unfinished:{}")

WEBHOOKS_PENDING = Key("dv:webhooks:pending")
WEBHOOKS_ENDED = Key("dv:webhooks:ended")  # by how they ended
WEBHOOK_SECRETS = Key("dv:webhooks:secrets")
WEBHOOK_BREAKER = Key("dv:webhooks:breaker:{}")
WEBHOOKS_DISABLED = Key("dv:webhooks:disabled:{}")
WEBHOOK = Key("dv:webhook:{}")
WEBHOOKS_OF = Key("dv:webhooks:of:{}")

API_KEYS = Key("dv:keys")
API_KEYS_BY_DIGEST = Key("dv:keys:by-digest")
API_KEYS_REVOKED = Key("dv:keys:revoked")  # whose jobs are still to be found
RATE = Key("dv:rate:{}")
IDEMPOTENT_REQUEST = Key("dv:requests:{}:{}")

WORKERS = Key("dv:workers")
MODELS = Key("dv:models")
SPEED_MEGAPIXELS = Key("dv:speed:megapixels")
SPEED_SECONDS = Key("dv:speed:seconds")
TOTALS = Key("dv:totals")
STAGE_SECONDS = Key("dv:stage_seconds")
STAGE_COUNTS = Key("dv:stage_counts")

ANSWERS = Key("dv:answers:{}")  # to calls that may be sent again
LEADER = Key("dv:leader:{}")
SWEEPS = Key("dv:sweeps")


def with_keys(script: str) -> str:
    """A script with the functions before it that it calls for names."""
    called = sorted(set(re.findall(r"\bkey_(\w+)\(", script)))
    return "".join(globals()[name.upper()].to_lua(f"key_{name}") for name in called) + script
