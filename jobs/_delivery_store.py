"""How far deliveries of results are."""

from __future__ import annotations

from datetime import timedelta

from jobs._outcomes import require_changed
from jobs._scripts import deliveries
from jobs.clock import milliseconds
from jobs.redis_store import RedisStore
from jobs.transfers import DeliveryStatus, ResultDelivery


class DeliveryStore(RedisStore):
    """The part of `JobStore` that those use who deliver."""

    def ask_delivery(self, job_id: str, url: str) -> None:
        """Notes that a result is to be delivered, in place of what was asked for before. The caller enqueues
        it; if it dies before, `due_deliveries` tells.

        Args:
            job_id: Whose result.
            url: Where to, as in `ResultDelivery`.

        Raises:
            JobNotFoundError: If there is no such job.
            JobStateError: If it is not completed.
        """
        outcome = self._run_once(deliveries.ASK_DELIVERY, job_id, url)
        require_changed(job_id, outcome, "delivered")

    def note_delivery(
        self,
        job_id: str,
        delivery: ResultDelivery,
        status: DeliveryStatus,
        *,
        code: str = "",
        message: str = "",
    ) -> None:
        """Notes an attempt. Nothing happens if the delivery is over or was asked for anew.

        Args:
            job_id: Whose result.
            delivery: As it was found before the attempt.
            status: After it.
            code: Why it failed.
            message: The same for people.
        """
        self._run_once(deliveries.NOTE_DELIVERY, job_id, delivery.asked_ms, status, code, message)

    def close_delivery(self, job_id: str) -> None:
        """Says that its customer knows how a delivery ended. Nothing happens where it has begun anew."""
        self._run(deliveries.CLOSE_DELIVERY, job_id)

    def due_deliveries(self, *, limit: int, again_after: timedelta) -> list[str]:
        """Jobs whose deliveries are not over, and should have a message in the queue: those that were just
        asked for, and others every so often."""
        found = self._run(deliveries.DUE_DELIVERIES, limit, milliseconds(again_after))
        return [item.decode() for item in found]
