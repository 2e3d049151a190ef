"""What can be pulled: a repository of the hub, one file of it, or a file of any web server."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pipelines.store.errors import SourceError

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPO = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?")
_FILE = re.compile(rf"(?P<owner>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[^/@]+))?/(?P<path>.+)")
# What is safe in an address stays; a space or an umlaut, as copied from a browser, is encoded.
_KEPT_IN_URLS = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True)
class WebFile:
    """A file of a web server.

    Attributes:
        url: Its address.
    """

    url: str

    @property
    def label(self) -> str:
        """For people and for the record: without the query, which may hold a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return unquote(urlsplit(self.url).path).rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """What a name is made of."""
        return PurePosixPath(self.filename).stem


@dataclass(frozen=True)
class HubRepository:
    """A repository of the hub.

    Attributes:
        repo: As "owner/name".
        revision: Branch, tag or commit; None for the main branch.
        path: One file of it; None for a checkpoint, or the only file of weights.
    """

    repo: str
    revision: str | None = None
    path: str | None = None

    @property
    def label(self) -> str:
        """For people and for the record."""
        revision = f"@{self.revision}" if self.revision else ""
        if self.path is None:
            return f"{self.repo}{revision}"
        return f"hf://{self.repo}{revision.replace('/', '%2F')}/{self.path}"

    @property
    def stem(self) -> str:
        """What a name is made of."""
        return PurePosixPath(self.path).stem if self.path else self.repo.partition("/")[2]


Source = WebFile | HubRepository


def parse_source(text: str, *, hub: str) -> Source:
    """Reads what a user asks for.

    Args:
        text: "owner/name", "owner/name@revision", "hf://owner/name/file.safetensors" or an address.
        hub: Address of the hub: its web pages, as copied from a browser, are taken for what they show.

    Raises:
        SourceError: If it is none of these, or nothing that may be pulled.
    """
    if text.startswith("hf://"):
        return _parse_hub(text.removeprefix("hf://"), text)
    if "://" in text:
        return _parse_page(text, hub) or _parse_web_file(text)
    return _parse_hub(text, text)


def is_allowed_url(url: str) -> bool:
    """Whether an address is https, or http of this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine, as far as its name says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def is_inside(path: str) -> bool:
    """Whether a file's path, with "/" between its parts, stays in the folder it is relative to."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not any(part in ("", ".", "..") for part in parts)


def _parse_hub(text: str, given: str) -> HubRepository:
    if match := _REPO.fullmatch(text):
        return HubRepository(match["repo"], match["revision"])
    if given.startswith("hf://") and (match := _FILE.fullmatch(text)):
        revision = unquote(match["revision"]) if match["revision"] else None
        return _hub_file(f"{match['owner']}/{match['name']}", revision, match["path"])
    raise SourceError(
        f"{given!r} cannot be pulled; accepted are owner/name and owner/name@revision of the hub, "
        "hf://owner/name/FILE and https:// addresses (what is on this machine needs no pull: give its "
        "path to --model)"
    )


def _hub_file(repo: str, revision: str | None, path: str) -> HubRepository:
    _check_weights(path)
    if not is_inside(path):
        raise SourceError(f"{path!r} is no path inside a repository")
    return HubRepository(repo, revision, path)


def _parse_page(text: str, hub: str) -> HubRepository | None:
    """The repository or file that a page of the hub shows; None for other addresses."""
    parts, home = _split(text), urlsplit(hub)
    if (parts.scheme, parts.netloc) != (home.scheme, home.netloc):
        return None
    path = unquote(parts.path.removeprefix(home.path.rstrip("/"))).strip("/")
    repo, rest = "/".join(path.split("/")[:2]), path.split("/")[2:]
    if not _REPO.fullmatch(repo):
        return None
    if len(rest) > 2 and rest[0] in ("resolve", "blob", "raw"):
        return _hub_file(repo, rest[1], "/".join(rest[2:]))
    if not rest or (len(rest) == 2 and rest[0] == "tree"):
        return HubRepository(repo, rest[1] if rest else None)
    return None


def _parse_web_file(text: str) -> WebFile:
    source = WebFile(quote(text, safe=_KEPT_IN_URLS))
    parts = _split(source.url)
    if not is_allowed_url(source.url):
        raise SourceError(
            f"{text!r} cannot be pulled: https:// is accepted (http:// for this machine only), so that "
            "nobody on the way can change the file"
        )
    if "@" in parts.netloc or not parts.hostname:
        raise SourceError(f"{source.url!r} needs a host, and no password: addresses are recorded and shown")
    _check_weights(source.filename)
    if not is_inside(source.filename):
        raise SourceError(f"{source.filename!r} cannot be the name of a file")
    return source


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise SourceError(f"{url!r} is no address: {error}") from error
    return parts


def _check_weights(path: str) -> None:
    if not path.lower().endswith(WEIGHT_SUFFIXES):
        raise SourceError(
            f"{path!r} is no file of weights; accepted are {', '.join(WEIGHT_SUFFIXES)} (of an https:// "
            "address the last part counts)"
        )
