"""`store.json`: what is known about a pulled model."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipelines.store.errors import DamagedModelError
from pipelines.store.sources import is_inside

RECORD_NAME = "store.json"
ModelKind = Literal["checkpoint", "network"]
LicenceOrigin = Literal["dovetail.json", "model card", "user"]


def _check_inside(path: str) -> str:
    if not is_inside(path):
        raise ValueError(f"must be a path inside the model's folder, got {path!r}")
    return path


class StoredFile(BaseModel):
    """A file of a pulled model.

    Attributes:
        path: In the model's folder, with "/" between its parts.
        size_bytes: Its size.
        sha256: Hex digest.
    """

    model_config = ConfigDict(frozen=True)

    path: Annotated[str, AfterValidator(_check_inside)]
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class StoredModel(BaseModel):
    """Contents of `store.json`.

    Attributes:
        version: Of this form.
        name: What `--model` takes.
        kind: `checkpoint`: a folder, in the layout of diffusers or with a `propagation.json`; `network`: one
            file of weights.
        source: Where it came from: a hub id, `hf://...` or an address without its query.
        revision: Commit of the hub's repository.
        files: All files but the record.
        licence: SPDX identifier or a sentence; None where nobody said.
        licence_from: Who said so.
        accepted_at: When the user agreed to a licence that is not permissive or not known.
        pulled_at: When it was pulled.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    name: str
    kind: ModelKind
    source: str
    revision: str | None = None
    files: tuple[StoredFile, ...] = Field(min_length=1)
    licence: str | None = None
    licence_from: LicenceOrigin | None = None
    accepted_at: datetime | None = None
    pulled_at: datetime

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


def read_record(folder: Path) -> StoredModel:
    """Reads a model's record.

    Raises:
        DamagedModelError: If it is missing or not valid.
    """
    path = folder / RECORD_NAME
    try:
        return StoredModel.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedModelError(f"{path} cannot be read: {error.strerror or error}", path=path) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
        raise DamagedModelError(f"{path} is not a valid record ({problems})", path=path) from error
