"""What else one asks of the service, for both clients: uploads, webhooks, estimates, models, the account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Unpack, cast

from dovetail_client._api import Methods
from dovetail_client._sources import LocalFile, Source, id_of, remote_source
from dovetail_client._uploads import (
    DEFAULT_CHUNK_SIZE,
    ProgressFunction,
    Uploading,
    delete_upload,
    path_of,
    upload_id_of,
)
from dovetail_client.account_models import Delivery, Me, WebhookSecret
from dovetail_client.models import Batch, Estimate, Job, Model, Page, Upload
from dovetail_client.options import JobOptions, SubmitOptions, request_fields


class ServiceMethods(Methods):
    """Everything but jobs and batches."""

    async def upload(
        self,
        source: Source,
        *,
        filename: str | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        on_progress: ProgressFunction | None = None,
        on_created: Callable[[str], None] | None = None,
        resume: str | Upload | None = None,
    ) -> Upload:
        """Uploads a file in chunks with checksums, to be submitted later. Memory does not grow with its size.

        Files above 8 MiB go straight to the storage of a service that lets them, in parts of its own size.

        Args:
            source: A path or an open binary file.
            filename: What the service shall call it; by default its own name.
            chunk_size: Bytes that are sent, and held in memory, at once; what a broken connection costs. With
                less than 8 MiB nothing goes straight to the storage.
            on_progress: Is told bytes that are there and bytes in all.
            on_created: Is told the upload's URL, to be saved for `resume`.
            resume: An upload that was begun with the same file, or its URL or id.

        Raises:
            TransferError: If it fails again and again, or `resume` is of another file.
            APIError: If the service refuses.
            OSError: If the file cannot be read.
        """
        with await self._api.work(LocalFile, source, filename) as file:
            uploading = Uploading(self._api, file, chunk_size=chunk_size, on_progress=on_progress)
            return await uploading.run(resume, on_created)

    async def get_upload(self, upload: Upload | str) -> Upload:
        """How far an upload is."""
        return await self._api.get(Upload, path_of(upload_id_of(upload)))

    async def delete_upload(self, upload: Upload | str) -> None:
        """Ends an upload and forgets its bytes."""
        await delete_upload(self._api, upload_id_of(upload))

    async def webhook_secret(self) -> WebhookSecret:
        """What signs the webhooks of your jobs and batches, for a library of Standard Webhooks."""
        return await self._api.get(WebhookSecret, "/v1/webhooks/secret")

    async def rotate_webhook_secret(self, *, overlap_seconds: int = 86_400) -> WebhookSecret:
        """Makes a new webhook secret.

        Args:
            overlap_seconds: How long the present one signs too, until receivers have changed. 0 ends it at
                once, for one that has leaked.
        """
        return await self._api.post(
            WebhookSecret, "/v1/webhooks/secret/rotate", {"overlap_seconds": overlap_seconds}
        )

    async def deliveries(self, subject: Job | Batch | str) -> tuple[Delivery, ...]:
        """What was sent to the webhook of a job or batch, the oldest first, and what came of it."""
        found = id_of(subject)
        kind = "batches" if found.startswith("batch_") else "jobs"
        return (await self._api.get(Page[Delivery], f"/v1/{kind}/{found}/deliveries")).data

    async def redeliver(self, delivery: Delivery | str) -> Delivery:
        """Sends a webhook again: the same bytes under the same id."""
        return await self._api.post(Delivery, f"/v1/webhooks/deliveries/{id_of(delivery)}/redeliver")

    async def estimate(self, source: Source | Mapping[str, Any], **options: Unpack[JobOptions]) -> Estimate:
        """What a job would cost.

        Args:
            source: An upload, a URL, or a mapping with `width`, `height`, `frame_rate` and `duration_seconds`
                or `num_frames`.
            **options: See `JobOptions`.
        """
        fields = request_fields(cast(SubmitOptions, options))
        if isinstance(source, Mapping):
            fields["input"] = dict(source)
        else:
            named = remote_source(source)
            if named is None:
                raise TypeError(
                    "an estimate takes an upload, a URL, or the video's width, height, frame_rate and "
                    f"duration_seconds, not {source!r}"
                )
            fields["source"] = named
        # Nothing is made by it, so that it may be asked twice.
        return await self._api.post(Estimate, "/v1/estimate", {"options": {}, **fields}, is_repeatable=True)

    async def models(self) -> tuple[Model, ...]:
        """The models that the service offers."""
        return (await self._api.get(Page[Model], "/v1/models")).data

    async def me(self) -> Me:
        """Who the key belongs to, and what it may do."""
        return await self._api.get(Me, "/v1/me")
