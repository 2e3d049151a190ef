"""A proxy before a Redis server that loses answers: the command has run, and its client never hears it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass

_BLOCK_BYTES = 1 << 16
# What goes on for long on a connection of its own: replication, and what is published.
_STREAMS = (b"PSYNC", b"REPLCONF", b"SUBSCRIBE")
_SCRIPT = b"EVALSHA"


class LossyProxy:
    """Forwards connections, in a thread of its own.

    Args:
        target_port: Of the server, on the loopback interface.

    Attributes:
        port: Its own.
        num_lost: Answers that were lost so far.
    """

    def __init__(self, target_port: int) -> None:
        self.port, self.num_lost = 0, 0
        self._target_port, self._num_doomed = target_port, 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def lose_answers(self, count: int) -> None:
        """Loses the answers to the next so many scripts, and closes the connections they came on."""
        self._loop.call_soon_threadsafe(self._doom, count)

    def close(self) -> None:
        """Ends all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _doom(self, count: int) -> None:
        self._num_doomed += count

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection()
        ends = [writer]
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target_port)
            ends.append(to_server)
            both = [
                asyncio.ensure_future(self._forward_commands(connection, reader, to_server)),
                asyncio.ensure_future(self._forward_answers(connection, from_server, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the proxy ends: so it does for this client
        finally:
            for end in ends:
                end.close()

    async def _forward_commands(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_BLOCK_BYTES):
            connection.is_stream |= any(word in data for word in _STREAMS)
            if self._num_doomed and not connection.is_stream and _SCRIPT in data:
                self._num_doomed -= 1
                connection.is_doomed = True
            writer.write(data)
            with suppress(ConnectionError):
                await writer.drain()

    async def _forward_answers(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(_BLOCK_BYTES):
            # Where the script was not there, nothing has run.
            if connection.is_doomed and not data.startswith(b"-NOSCRIPT"):
                self.num_lost += 1
                return
            writer.write(data)
            await writer.drain()


@dataclass
class _Connection:
    is_stream: bool = False
    is_doomed: bool = False
