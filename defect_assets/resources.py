"""What the assets work with."""

from functools import cache
from pathlib import Path

import boto3
import dagster as dg
from dagster_aws.s3 import S3Resource

from defect_assets.home import Home, default_home
from defect_assets.run_workers import bury, sign
from defect_assets.store import S3Access


class HomeResource(dg.ConfigurableResource):
    """The home: inbox, store, BentoML's stores. See `defect_assets.home`."""

    root: str = ""
    """Its folder; by default the one that DEFECT_HOME names, or ``home`` in the checkout."""
    store: str = ""
    """A folder or ``s3://bucket/prefix``; by default what DEFECT_STORE names, or in the home."""
    inbox: str = ""
    """``s3://bucket/prefix`` of deliveries; by default what DEFECT_INBOX names, or none."""
    s3: S3Resource
    """How a bucket is reached; what is left out comes from the usual AWS environment."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note who works on the run, and end those of the dead, before it waits for their place.

        A sensor's tick, which has no run, ends them, too: after a power failure nobody else comes,
        and what they were to make would be under way for good.
        """
        if context.instance is None:
            return
        if context.run:
            sign(context.instance, context.run)
        # No code server launched a command's own run, and the command walks the rest of the road.
        by_command = context.run is not None and context.run.remote_job_origin is None
        bury(context.instance, retried=not by_command)

    def open(self) -> Home:
        """Return the home."""
        given = default_home()
        root = Path(self.root).resolve() if self.root else given.root
        url = self.store or ("" if self.root else given.store_url)
        inbox = self.inbox or ("" if self.root else given.inbox_url)
        in_bucket = url.startswith("s3:") or inbox
        return Home(root, url, self._access() if in_bucket else None, inbox)

    def _access(self) -> S3Access | None:
        s3 = self.s3
        return _access(
            s3.profile_name,
            s3.aws_access_key_id,
            s3.aws_secret_access_key,
            s3.aws_session_token,
            s3.region_name,
            s3.endpoint_url,
        )


@cache
def _access(
    profile: str | None,
    key_id: str | None,
    secret: str | None,
    token: str | None,
    region: str | None,
    endpoint: str | None,
) -> S3Access | None:
    """Return how a bucket is reached, the same for the same values: a store is opened once."""
    if not (profile or key_id or region or endpoint):
        return None
    session = boto3.Session(
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=region,
        profile_name=profile,
    )
    return S3Access(session, endpoint)
