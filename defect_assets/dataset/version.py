"""Semantic versions with a prefix: ``DS-1.2.0`` for datasets, ``v1.4.2`` for releases."""

import re
from enum import IntEnum
from typing import NamedTuple

_VERSION = re.compile(r"(DS-|v)(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class Bump(IntEnum):
    """Which number rises, from the least to the greatest change."""

    PATCH = 0
    MINOR = 1
    MAJOR = 2


class Version(NamedTuple):
    """A version; versions of one prefix are ordered.

    >>> Version.parse("DS-1.2.9") < Version.parse("DS-1.10.0")
    True
    >>> str(Version.parse("DS-1.2.9").bumped(Bump.MINOR))
    'DS-1.3.0'
    """

    prefix: str
    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Read a version; raise ``ValueError`` if the text is none."""
        match = _VERSION.fullmatch(text)
        if not match:
            raise ValueError(f"{text!r} is not a version such as DS-1.2.0 or v1.4.2")
        prefix, *numbers = match.groups()
        return cls(prefix, *map(int, numbers))

    def bumped(self, bump: Bump) -> "Version":
        """Return the next version after a change."""
        if bump is Bump.MAJOR:
            return self._replace(major=self.major + 1, minor=0, patch=0)
        if bump is Bump.MINOR:
            return self._replace(minor=self.minor + 1, patch=0)
        return self._replace(patch=self.patch + 1)

    def __str__(self) -> str:
        return f"{self.prefix}{self.major}.{self.minor}.{self.patch}"
