"""How a bucket is reached, said without importing any client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import boto3


@dataclass(frozen=True)
class S3Access:
    """How a bucket is reached. What is left out comes from the usual AWS environment."""

    session: boto3.Session | None = None
    """Credentials and region."""
    endpoint: str | None = None
    """The server's URL, where it is not Amazon's."""
