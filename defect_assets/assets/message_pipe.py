"""Messages from another process through a named pipe."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter, PipesParams


class MessagePipe(dg.PipesMessageReader):
    """Reads what a process says for Dagster's Pipes as it says it.

    Dagster's own reader tails a file, and fails when it finds a message that is half written.
    Whoever reads from a pipe waits for the other half.
    """

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[PipesParams]:
        """Hand on messages until the block ends; yield how to send them."""
        with tempfile.TemporaryDirectory(prefix="defect-messages-") as folder:
            path = Path(folder) / "messages"
            os.mkfifo(path)
            reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(reading, True)
            # The other process opens the pipe for each message; this keeps it from ending between.
            writing = os.open(path, os.O_WRONLY)
            reader = Thread(target=_read, args=(reading, handler), daemon=True)
            reader.start()
            try:
                yield {PipesDefaultMessageWriter.FILE_PATH_KEY: str(path)}
            finally:
                os.close(writing)
                reader.join()

    def no_messages_debug_text(self) -> str:
        return "Attempted to read messages from a named pipe."


def _read(descriptor: int, handler: dg.PipesMessageHandler) -> None:
    with open(descriptor, encoding="utf-8") as pipe:
        for line in pipe:
            if line.endswith("\n"):  # or else who said it was killed meanwhile
                handler.handle_message(json.loads(line))
