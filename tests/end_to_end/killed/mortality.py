"""A process that counts what it asks of the file system and the store, and dies at some point."""

import os
import signal
from collections.abc import Callable
from typing import Any

from defect_assets.store.local import LocalBackend


class Mortal:
    """Counts points, and kills the process at the last one; 0: not at all."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.count = 0

    def point(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_and_after(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.point()
            result = function(*args, **options)
            self.point()
            return result

        return counted

    def watch(self) -> None:
        for name in ("link", "replace", "unlink"):
            setattr(os, name, self.before_and_after(getattr(os, name)))
        for name in ("create", "swap", "delete"):
            setattr(LocalBackend, name, self.before_and_after(getattr(LocalBackend, name)))
