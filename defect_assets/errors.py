"""What goes wrong for a reason that a person can mend."""

from typing import Any


class UserError(Exception):
    """An error whose message says what is wrong and what to do; commands show it and stop.

    It says the same when it comes from another process, whatever its constructor takes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[UserError], arguments: tuple[Any, ...], state: dict[str, Any]
) -> UserError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error
