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

    def where(self) -> dict[str, str]:
        """Return the variables that say where the bucket is, and nothing secret."""
        region = (self.session.region_name if self.session else None) or ""
        found = {
            "AWS_ENDPOINT_URL_S3": self.endpoint or "",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
        }
        return {name: value for name, value in found.items() if value}

    def environment(self) -> dict[str, str]:
        """Return the variables with which another process reaches the bucket in the same way."""
        found = self.where()
        if self.session and (credentials := self.session.get_credentials()):
            frozen = credentials.get_frozen_credentials()
            found["AWS_ACCESS_KEY_ID"] = frozen.access_key or ""
            found["AWS_SECRET_ACCESS_KEY"] = frozen.secret_key or ""
            found["AWS_SESSION_TOKEN"] = frozen.token or ""
        return {name: value for name, value in found.items() if value}
