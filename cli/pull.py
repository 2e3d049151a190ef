"""`dovetail models pull`: a model from the hub or the web, under a name."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Self

import typer

from cli._moments import Moment, ShowFunction, make_moment_display, moment_of_transfer
from cli.errors import reported_errors
from cli.jobs import printable
from cli.store_folder import store_folder

if TYPE_CHECKING:
    from pipelines.store.errors import DownloadError
    from pipelines.store.offers import Offer

# Those of `pipelines.interpolation`, which imports torch: a pull would begin seconds later.
INTERPOLATION_NAMES = ("bicubic", "lanczos")
_SHOW_EVERY_SECONDS = 0.1


def pull(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ID|URL",
            help="owner/name or owner/name@revision of the Hugging Face hub, hf://owner/name/FILE for one "
            "file of it, or the https address of a .safetensors, .pth, .pt or .ckpt file.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="For --model. Default: the file's or repository's.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Digest that the one file must have.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", metavar="SPDX", help="Where the source declares none."),
    ] = None,
    is_accepted: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            "--accept-license",
            help="Agree to a licence that is not permissive, or not known.",
        ),
    ] = False,
    use_overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model of that name.")] = False,
    max_gb: Annotated[float, typer.Option(min=0, help="Size of all files at most.")] = 40,
    use_json: Annotated[bool, typer.Option("--json", help="Write the record as JSON to stdout.")] = False,
    is_quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fetch a model and give it a name that --model takes.

    An interrupted pull goes on where it ended. Files are checked against the digests that the hub or --sha256
    says, and their digests are recorded for 'verify'. Only weights and their descriptions are fetched, never
    code.
    """
    with reported_errors(as_json=use_json), _Terminal(is_quiet=is_quiet, is_accepted=is_accepted) as terminal:
        from pipelines.store.folders import ModelStore
        from pipelines.store.offers import PullOptions
        from pipelines.store.pulling import pull as pull_model

        options = PullOptions(
            name=name,
            sha256=sha256,
            licence=licence,
            use_overwrite=use_overwrite,
            max_bytes=int(max_gb * 1e9),
            reserved=_builtin_names(),
        )
        try:
            model = pull_model(source, ModelStore(store_folder()), audience=terminal, options=options)
        except KeyboardInterrupt as error:
            error.add_note("what has come is kept: the same command goes on")
            raise
    typer.echo(model.model_dump_json(indent=2) if use_json else model.name)
    for file in model.files if len(model.files) == 1 else ():
        typer.echo(f"SHA-256 {file.sha256}", err=True)
    typer.echo(f"pulled into {store_folder() / model.name}; use it with --model {model.name}", err=True)


def ask(question: str) -> bool:
    """Asks on stderr.

    Raises:
        KeyboardInterrupt: If the user interrupts instead.
    """
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None


def _builtin_names() -> list[str]:
    from pipelines.dove.description import embedded_checkpoints

    return [*embedded_checkpoints(), *INTERPOLATION_NAMES]


class _Terminal:
    """Tells and asks on stderr; the bar appears with the first bytes."""

    def __init__(self, *, is_quiet: bool, is_accepted: bool) -> None:
        self._is_quiet, self._is_accepted = is_quiet, is_accepted
        self._stack = ExitStack()
        self._name = ""
        self._show: ShowFunction | None = None
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def waits(self, name: str) -> None:
        """Says why nothing happens."""
        typer.echo(f"waiting for another command that changes {name}", err=True)

    def sees(self, offer: Offer) -> None:
        """Shows what comes, under which name, and its licence."""
        self._name = offer.name
        size = "" if offer.size_bytes is None else f", {offer.size_bytes / 1e6:.1f} MB"
        said_by = f" (as the {offer.licence_from} says)" if offer.licence_from else ""
        lines = {
            "name": offer.name,
            "source": offer.source + (f" at {offer.revision}" if offer.revision else ""),
            "kind": f"{offer.kind}, {len(offer.files)} file{'s' if len(offer.files) > 1 else ''}{size}",
            "licence": f"{offer.licence or 'unknown'}{said_by}",
        }
        for title, text in lines.items():
            typer.echo(f"{title}: {printable(text)}", err=True)

    def accepts(self, offer: Offer) -> bool:
        """Asks, unless the answer was given beforehand.

        Raises:
            LicenceError: If nobody can be asked.
        """
        if self._is_accepted:
            return True
        licence = (
            "not known" if offer.licence is None else f"not a permissive one ({printable(offer.licence)})"
        )
        if sys.stdin.isatty():
            return ask(
                f"The licence is {licence}: have you read its terms where the model comes from, and do you "
                "accept them?"
            )
        from pipelines.store.errors import LicenceError

        error = LicenceError(f"the licence of {offer.source} is {licence}, and nobody can be asked here")
        error.add_note("read its terms where the model comes from, then add --accept-licence")
        if offer.licence is None:
            error.add_note("if you know the licence, name it: --licence MIT")
        raise error

    def progresses(self, num_bytes: int, total_bytes: int | None) -> None:
        """Moves the bar, not more often than anybody can see."""
        now = time.monotonic()
        if now - self._shown_at < _SHOW_EVERY_SECONDS and num_bytes != total_bytes:
            return
        self._shown_at = now
        if self._show is None:
            self._show = self._stack.enter_context(make_moment_display(is_quiet=self._is_quiet)).begin(
                self._name
            )
        if total_bytes is None:
            self._show(Moment("downloading", None, f"{num_bytes / 1e6:.1f} MB"))
        else:
            self._show(moment_of_transfer("downloading", num_bytes, total_bytes))

    def retries(self, error: DownloadError, pause_seconds: float) -> None:
        """Says why the bar stands still."""
        if not self._is_quiet:
            typer.echo(f"{error}; asking again in {pause_seconds:.0f} s", err=True)
