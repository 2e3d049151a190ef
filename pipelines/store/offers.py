"""What a source has and what a user wants of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.store.errors import DownloadError
from pipelines.store.fetching import Patience
from pipelines.store.records import LicenceOrigin, ModelKind
from pipelines.store.remote import RemoteFile

DEFAULT_MAX_BYTES = 40 * 10**9


@dataclass(frozen=True)
class PullOptions:
    """What a user can choose.

    Attributes:
        name: Of the model; None makes one of the source's.
        sha256: Hex digest that the one file must have.
        licence: SPDX identifier, where the source declares none.
        use_overwrite: Replace a model of that name.
        max_bytes: Of all files together.
        reserved: Names that mean something else already.
        hub: Address of the hub; None is huggingface_hub's.
        patience: With servers.
    """

    name: str | None = None
    sha256: str | None = None
    licence: str | None = None
    use_overwrite: bool = False
    max_bytes: int = DEFAULT_MAX_BYTES
    reserved: Collection[str] = ()
    hub: str | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Offer:
    """What a source has, known before weights are fetched.

    Attributes:
        name: That the model will have.
        kind: As in its record.
        source: As in its record.
        revision: Commit of a repository.
        files: What will be fetched.
        licence: That counts; None if nobody says.
        licence_from: Who says it.
    """

    name: str
    kind: ModelKind
    source: str
    revision: str | None
    files: tuple[RemoteFile, ...]
    licence: str | None = None
    licence_from: LicenceOrigin | None = None

    @property
    def size_bytes(self) -> int | None:
        """Of all files; None where the server was not asked yet."""
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


class Audience(Protocol):
    """Who hears of a pull and is asked."""

    def waits(self, name: str) -> None:
        """Somebody else is changing a model of that name; it goes on when they are done."""

    def sees(self, offer: Offer) -> None:
        """This is what the source has."""

    def accepts(self, offer: Offer) -> bool:
        """Whether the user agrees to a licence that is not permissive, or not known."""

    def progresses(self, num_bytes: int, total_bytes: int | None) -> None:
        """So many bytes of all files are here."""

    def retries(self, error: DownloadError, pause_seconds: float) -> None:
        """A server failed, and is asked again after a pause."""
