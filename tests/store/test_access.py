"""How a bucket is reached goes to another process by its environment."""

import os
import subprocess
import sys

import boto3

from defect_assets.store import S3Access, open_store
from tests.conftest import PROJECT
from tests.servers.s3 import S3Server

READS = """
import sys
from defect_assets.store import open_store
print(open_store(sys.argv[1]).objects.get(sys.argv[2]).decode())
"""


def test_another_process_reaches_the_same_bucket(moto: S3Server) -> None:
    url = moto.new_store()
    session = boto3.Session(moto.access_key, moto.secret_key, region_name=moto.region)
    access = S3Access(session, moto.endpoint)
    digest = open_store(url, access).objects.put(b"seen by both")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    result = subprocess.run(
        [sys.executable, "-c", READS, url, digest],
        env={**clean, "PYTHONPATH": str(PROJECT), **access.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "seen by both", result.stderr
