"""Where webhooks may go."""

from __future__ import annotations

from service.outgoing import check_url


def check_target(url: str, *, allow_private: bool) -> None:
    """Checks a webhook's address when it is submitted.

    Names are not resolved here: that happens at each delivery, on the connection itself
    (`service.outgoing`), where it counts; and a name server that is away should refuse no job.

    Args:
        url: Where to post.
        allow_private: Whether http:// and private networks are accepted.

    Raises:
        InvalidRequestError: If it is not https://, has credentials in it or names a private host.
    """
    check_url(url, allow_private=allow_private)
