"""Warnings of one reader: each said once, with a count."""

from collections.abc import Callable


class Notes(list[str]):
    """A list of messages that grows while a file is read; a repeated one is counted in place."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}
        self._highest: dict[str, int] = {}
        self._positions: dict[str, int] = {}

    def begin_pass(self) -> None:
        """Start counting anew: what is met again when the file is read again is not said twice."""
        self._counts.clear()

    def add(self, key: str, message: str | Callable[[int], str]) -> None:
        """Say something.

        Args:
            key: What makes two messages the same.
            message: The text, or a function from how often it was said in this pass to the text.
        """
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count <= self._highest.get(key, 0):
            return
        self._highest[key] = count
        text = message if isinstance(message, str) else message(count)
        if key in self._positions:
            self[self._positions[key]] = text
        else:
            self._positions[key] = len(self)
            self.append(text)
