"""Repositories of the Hugging Face hub: what is in them, and which of it is a model.

huggingface_hub lists; the files come through `fetching`, because its own downloads start anew when they are
interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from pipelines.dove.description import COMPONENT_PATTERNS, TEXT_PATTERNS
from pipelines.store.errors import ContentError, DownloadError, SourceError
from pipelines.store.records import ModelKind
from pipelines.store.remote import RemoteFile
from pipelines.store.sources import WEIGHT_SUFFIXES, HubRepository, is_allowed_url, is_inside

PROPAGATION_FILES = ("propagation.json", "propagation.safetensors")
MAX_FILES = 1000
TIMEOUT_SECONDS = 30.0
# Data only. `.model` is the vocabulary of a T5 tokenizer; code is never pulled.
_SUFFIXES = (".safetensors", ".json", ".txt", ".model")
# HTTPError of httpx or httpx2, whichever this version of huggingface_hub uses.
_TransportError: type[Exception] = HfHubHTTPError.__bases__[0]


@dataclass(frozen=True)
class Listing:
    """A repository at a commit.

    Attributes:
        repo: As "owner/name".
        commit: Full hash.
        files: All files by path.
        licence: As its model card says.
    """

    repo: str
    commit: str
    files: dict[str, RemoteFile]
    licence: str | None


def hub_address() -> str:
    """The hub that huggingface_hub is set to."""
    return str(constants.ENDPOINT)


def list_repository(source: HubRepository, *, hub: str) -> Listing:
    """Asks the hub what is in a repository.

    Raises:
        DownloadError: If it cannot be asked, or there is no such repository.
        SourceError: If the hub's address is not https.
    """
    if not is_allowed_url(hub):
        raise SourceError(f"the hub's address {hub!r} must be https")
    api = HfApi(endpoint=hub, library_name="dovetail")
    try:
        info = api.model_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=TIMEOUT_SECONDS
        )
    except GatedRepoError as error:
        raise gated_error(source.repo, hub) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"{hub} has no model {source.repo!r}, or it is private and needs a login (HF_TOKEN)", status=404
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(f"{source.repo!r} has no revision {source.revision!r}", status=404) from error
    except (_TransportError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DownloadError(f"cannot ask {hub} for {source.repo!r}: {reason}") from error
    token = get_token()
    files = {
        sibling.rfilename: _remote_file(source.repo, str(info.sha), sibling, hub=hub, token=token)
        for sibling in info.siblings or ()
        if is_inside(sibling.rfilename)  # an honest hub has no others
    }
    return Listing(source.repo, str(info.sha), files, _licence_of(info.card_data))


def gated_error(repo: str, hub: str) -> DownloadError:
    """The error that says how to get at a model whose owner wants to be asked."""
    error = DownloadError(f"the owner of {repo!r} gives it only to those who asked", status=403)
    error.add_note(f"ask at {hub}/{repo}, then log in: 'hf auth login', or HF_TOKEN in the environment")
    return error


def choose_files(listing: Listing, source: HubRepository) -> tuple[ModelKind, list[RemoteFile]]:
    """Which files of a repository are the model.

    Raises:
        ContentError: If there is no model in it, or more than one.
    """
    if source.path is not None:
        if source.path not in listing.files:
            raise ContentError(
                f"{listing.repo!r} has no file {source.path!r}; there are: {_shown(listing.files)}"
            )
        return "network", [listing.files[source.path]]
    if "model_index.json" in listing.files:
        return "checkpoint", _checkpoint_files(listing)
    if PROPAGATION_FILES[0] in listing.files:
        if PROPAGATION_FILES[1] not in listing.files:
            raise ContentError(
                f"{listing.repo!r} has no {PROPAGATION_FILES[1]} beside {PROPAGATION_FILES[0]}"
            )
        return "checkpoint", [listing.files[path] for path in PROPAGATION_FILES]
    weights = [path for path in listing.files if path.lower().endswith(WEIGHT_SUFFIXES)]
    if len(weights) == 1:
        return "network", [listing.files[weights[0]]]
    if not weights:
        raise ContentError(
            f"{listing.repo!r} has neither a model_index.json, a {PROPAGATION_FILES[0]} nor a file that ends "
            f"in {', '.join(WEIGHT_SUFFIXES)}; there are: {_shown(listing.files)}"
        )
    raise ContentError(
        f"{listing.repo!r} has several files of weights; choose one as hf://{listing.repo}/FILE: "
        f"{_shown(weights)}"
    )


def _checkpoint_files(listing: Listing) -> list[RemoteFile]:
    # The text encoder (9.5 GB for CogVideoX) only makes what `prompt_embeddings` holds already.
    has_embeddings = _matching(listing.files, ("prompt_embeddings/*.safetensors",))
    patterns = COMPONENT_PATTERNS if has_embeddings else (*COMPONENT_PATTERNS, *TEXT_PATTERNS)
    paths = [path for path in _matching(listing.files, patterns) if path.endswith(_SUFFIXES)]
    for part in ("transformer", "vae"):
        if not _matching(paths, (f"{part}/*.safetensors",)):
            raise ContentError(f"{listing.repo!r} has no {part}/*.safetensors; other weights are not read")
    if len(paths) > MAX_FILES:
        raise ContentError(f"{listing.repo!r} is a model of {len(paths)} files, {MAX_FILES} are accepted")
    # Small ones first: what is wrong is known before the gigabytes come.
    return sorted((listing.files[path] for path in paths), key=lambda file: (file.size_bytes or 0, file.path))


def _matching(paths: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Paths that match, where * stays within a folder."""
    patterns = tuple(patterns)
    return [
        path
        for path in paths
        if any(fnmatchcase(path, pattern) and path.count("/") == pattern.count("/") for pattern in patterns)
    ]


def _remote_file(repo: str, commit: str, sibling: RepoSibling, *, hub: str, token: str | None) -> RemoteFile:
    return RemoteFile(
        url=hf_hub_url(repo, sibling.rfilename, revision=commit, endpoint=hub),
        path=sibling.rfilename,
        size_bytes=sibling.size,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
        git_blob=None if sibling.lfs else sibling.blob_id,
        token=token,
    )


def _licence_of(card: Any) -> str | None:
    """`license:` of a model card; "other" is followed by a name."""
    values = {} if card is None else card.to_dict()
    licence = values.get("license")
    if isinstance(licence, list):
        licence = " AND ".join(map(str, licence))
    if licence == "other":
        licence = values.get("license_name") or licence
    return None if licence is None else str(licence)


def _shown(paths: Iterable[str]) -> str:
    paths = sorted(paths)
    return ", ".join(paths[:10]) + (f" and {len(paths) - 10} more" if len(paths) > 10 else "")
