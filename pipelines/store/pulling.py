"""A model from a hub or a web server into the store."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

from pipelines.dove.description import DESCRIPTION_NAME, read_description
from pipelines.store.content import check_json, check_weights
from pipelines.store.errors import (
    ContentError,
    DigestMismatchError,
    DownloadError,
    LicenceError,
    ModelExistsError,
    ModelNameError,
    ModelTooLargeError,
    SourceError,
)
from pipelines.store.fetching import FileProgress, fetch_file
from pipelines.store.folders import ModelStore, files_in
from pipelines.store.hub import (
    PROPAGATION_FILES,
    Listing,
    choose_files,
    gated_error,
    hub_address,
    list_repository,
)
from pipelines.store.licences import is_permissive, settled_licence, usual_spelling
from pipelines.store.names import check_name, derived_name
from pipelines.store.offers import Audience, Offer, PullOptions
from pipelines.store.parts import check_room
from pipelines.store.records import LicenceOrigin, StoredFile, StoredModel
from pipelines.store.remote import RemoteFile
from pipelines.store.sources import WEIGHT_SUFFIXES, HubRepository, Source, WebFile, parse_source

_MAX_DESCRIPTION_BYTES = 1 << 20


def pull(text: str, store: ModelStore, *, audience: Audience, options: PullOptions) -> StoredModel:
    """Fetches a model, checks it and gives it a name. What has come is kept when it fails on the way.

    Args:
        text: What to pull, as `parse_source` reads it.
        store: Where to.
        audience: Is told and asked.
        options: What the user chose.

    Raises:
        SourceError: If the text names nothing that can be pulled.
        ModelNameError: If the name cannot be used.
        ModelExistsError: If there is such a model and it should not be replaced.
        LicenceError: If the licence was not accepted.
        DownloadError: If it cannot be fetched or is no model.
        ModelTooLargeError: If it is larger than allowed.
        StoreFolderError: If it cannot be written.
        CheckpointError: If its `dovetail.json` is not valid.
    """
    hub = (options.hub or hub_address()).rstrip("/")
    source = parse_source(text, hub=hub)
    name = _name_for(source, options)
    expected = None if options.sha256 is None else _checked_digest(options.sha256)
    with store.locked(name, on_wait=lambda: audience.waits(name)):
        if name in store.names() and not options.use_overwrite:
            raise ModelExistsError(
                f"a model {name!r} was pulled before; --overwrite replaces it, --name keeps both"
            )
        return _Pull(source, store, name, expected, hub, audience, options).run()


class _Pull:
    """One pull, with the name's lock held."""

    def __init__(
        self,
        source: Source,
        store: ModelStore,
        name: str,
        sha256: str | None,
        hub: str,
        audience: Audience,
        options: PullOptions,
    ) -> None:
        self._source, self._store, self._name, self._sha256 = source, store, name, sha256
        self._hub, self._audience, self._options = hub, audience, options
        self._folder = store.partial_folder(name, source.label)

    def run(self) -> StoredModel:
        """Looks, asks, fetches, checks, installs."""
        offer = self._look()
        self._check_room(offer)
        self._audience.sees(offer)
        accepted_at = self._ask(offer)
        stored = self._fetch_all(offer)
        record = StoredModel(
            name=self._name,
            kind=offer.kind,
            source=offer.source,
            revision=offer.revision,
            files=tuple(sorted(stored, key=lambda file: file.path)),
            licence=offer.licence,
            licence_from=offer.licence_from,
            accepted_at=accepted_at,
            pulled_at=datetime.now(UTC),
        )
        self._store.install(self._folder, record)
        return record

    def _look(self) -> Offer:
        source = self._source
        if isinstance(source, WebFile):
            file = RemoteFile(source.url, source.filename, sha256=self._sha256)
            return self._licensed(Offer(self._name, "network", source.label, None, (file,)), None, None)
        listing = list_repository(source, hub=self._hub)
        kind, files = choose_files(listing, source)
        if kind == "network":
            files = [self._single(files[0])]
        elif self._sha256:
            raise SourceError(f"{source.label} has {len(files)} files, --sha256 is for a single one")
        offer = Offer(self._name, kind, source.label, listing.commit, tuple(files))
        return self._licensed(offer, *self._declared_licence(offer, listing))

    def _single(self, file: RemoteFile) -> RemoteFile:
        """The one file of a network, which lies in the model's folder itself."""
        if file.sha256 and self._sha256 and file.sha256 != self._sha256:
            raise DigestMismatchError(
                f"{file.path} has SHA-256 {file.sha256}, expected was {self._sha256}; nothing is fetched",
                expected=self._sha256,
                received=file.sha256,
            )
        return replace(file, path=file.path.rsplit("/", 1)[-1], sha256=file.sha256 or self._sha256)

    def _declared_licence(self, offer: Offer, listing: Listing) -> tuple[str | None, LicenceOrigin | None]:
        """`dovetail.json` speaks of the weights beside it, so it comes before the model card."""
        descriptions = [file for file in offer.files if file.path == DESCRIPTION_NAME]
        if descriptions:
            self._fetch_one(descriptions[0], max_bytes=_MAX_DESCRIPTION_BYTES)
            if licence := usual_spelling(read_description(self._folder).licence):
                return licence, "dovetail.json"
        licence = usual_spelling(listing.licence)
        return licence, "model card" if licence else None

    def _licensed(self, offer: Offer, declared: str | None, origin: LicenceOrigin | None) -> Offer:
        licence = settled_licence(declared, self._options.licence, source=offer.source)
        return replace(offer, licence=licence, licence_from="user" if licence and not declared else origin)

    def _check_room(self, offer: Offer) -> None:
        size, limit = offer.size_bytes or 0, self._options.max_bytes
        if size > limit:
            raise ModelTooLargeError(
                f"{offer.source} has {size / 1e9:.2f} GB, the limit is {limit / 1e9:.2f} GB (--max-gb)",
                max_bytes=limit,
            )
        present = sum((self._folder / path).stat().st_size for path in files_in(self._folder))
        check_room(self._folder, max(size - present, 0))

    def _ask(self, offer: Offer) -> datetime | None:
        if is_permissive(offer.licence):
            return None
        if not self._audience.accepts(offer):
            raise LicenceError(
                f"the licence of {offer.source} ({offer.licence or 'unknown'}) was not accepted"
            )
        return datetime.now(UTC)

    def _fetch_all(self, offer: Offer) -> list[StoredFile]:
        stored: list[StoredFile] = []
        for file in offer.files:
            before = sum(done.size_bytes for done in stored)

            def show(done: int, size: int | None, *, before: int = before) -> None:
                # A web server says only now how large its one file is.
                self._audience.progresses(before + done, offer.size_bytes or size)

            room = self._options.max_bytes - before
            stored.append(self._fetch_one(file, max_bytes=room, on_progress=show))
            self._check_content(file)
        return stored

    def _fetch_one(
        self, file: RemoteFile, *, max_bytes: int, on_progress: FileProgress = lambda done, total: None
    ) -> StoredFile:
        try:
            return fetch_file(
                file,
                self._folder,
                max_bytes=max_bytes,
                patience=self._options.patience,
                on_progress=on_progress,
                on_retry=self._audience.retries,
            )
        except DownloadError as error:
            if error.status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise
            if isinstance(self._source, HubRepository):
                raise gated_error(self._source.repo, self._hub) from error
            error.add_note("if it wants a login, download it with a browser and give the file to --model")
            raise

    def _check_content(self, file: RemoteFile) -> None:
        path = self._folder / file.path
        try:
            if path.name.lower().endswith(WEIGHT_SUFFIXES):
                check_weights(path)
            elif file.path in ("model_index.json", PROPAGATION_FILES[0]):
                check_json(path)
        except ContentError:
            path.unlink()
            raise


def _name_for(source: Source, options: PullOptions) -> str:
    name = derived_name(source.stem) if options.name is None else check_name(options.name)
    if name in options.reserved:
        raise ModelNameError(
            f"{name!r} is the name of a model that needs no pull; choose another with --name"
        )
    return name


def _checked_digest(text: str) -> str:
    digest = text.strip().lower().removeprefix("sha256:")
    if re.fullmatch("[0-9a-f]{64}", digest) is None:
        raise SourceError(f"--sha256 {text!r} is no SHA-256: 64 hexadecimal digits are needed")
    return digest
