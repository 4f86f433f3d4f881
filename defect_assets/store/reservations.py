"""Who is making what a name will stand for, so that it is not made twice at once.

Reservations lie beside the leases, out of reach of what walks along names: they are neither pushed
nor collected nor verified.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from defect_assets.errors import UserError
from defect_assets.store.backend import Backend
from defect_assets.store.leases import LEASES, may_live, read_mark, signature, who


class Reserved(UserError):
    """Someone else is making it; the message says who, and what to do."""


class ReservationLost(UserError):
    """Someone else took it over; the message says what that means."""


class Reservation:
    """The right to make what a name will stand for; see `reserve`.

    Parameters
    ----------
    backend
        The store's.
    name
        The name.
    mark
        What was left under the reservation's key.
    instead_of
        Who had it and died; empty where nobody did.
    """

    def __init__(self, backend: Backend, name: str, mark: bytes, instead_of: str) -> None:
        self._backend = backend
        self._name = name
        self._mark = mark
        self.instead_of = instead_of

    def confirm(self) -> None:
        """Make sure that it still holds, before the name is set.

        Raises
        ------
        ReservationLost
            If it does not.
        """
        left = read_mark(self._backend, _key(self._name))
        if left != self._mark:
            by = f"{who(left)} has it now" if left else "nobody has it now"
            raise ReservationLost(
                f"this run lost its reservation of {self._name}, {by}: {self._name} stays as it "
                "is; look whether it was made meanwhile, and run again if it was not"
            )


def held_by(backend: Backend, name: str) -> tuple[str, str] | None:
    """Return who is making what a name will stand for, and what to do about it, or None."""
    left = read_mark(backend, _key(name))
    return _explain(backend, name, left) if left and may_live(left) else None


@contextmanager
def reserve(backend: Backend, name: str, run: str) -> Iterator[Reservation]:
    """Keep others from making what a name will stand for meanwhile.

    What a dead process of this machine left, or one of another machine a day ago, is taken over.

    Parameters
    ----------
    backend
        The store's.
    name
        E.g. ``experiments/DS-1.1.0/C-01``.
    run
        The run that makes it, for those who find the reservation.

    Raises
    ------
    Reserved
        If another process, or another run of this one, is making it.
    """
    key, mark, dead = _key(name), signature(run=run), None
    while not backend.create(key, mark):
        dead = read_mark(backend, key)
        if dead is None:  # released since
            continue
        if may_live(dead):
            raise Reserved(": ".join(_explain(backend, name, dead)))
        if backend.swap(key, dead, mark):  # of two that find this out at once, one goes on
            break
    try:
        yield Reservation(backend, name, mark, who(dead) if dead else "")
    finally:
        with suppress(OSError):  # what stays expires
            if read_mark(backend, key) == mark:
                backend.delete(key)


def _key(name: str) -> str:
    return f"{LEASES}/reservations/{name}"


def _explain(backend: Backend, name: str, mark: bytes) -> tuple[str, str]:
    return (
        f"{who(mark)} is making {name}",
        "wait until it is done, or stop it. What another machine left when it died counts for a "
        f"day; remove {_key(name)} from {backend} to go on before",
    )
