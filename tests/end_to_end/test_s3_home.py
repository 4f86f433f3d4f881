"""A home whose store is a bucket: by the commands, and by Dagster with a resource."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from defect_assets.assets.dataset import dataset_manifest
from defect_assets.assets.raw_images import raw_images
from defect_assets.checks.intact import images_are_intact
from defect_assets.home import Home
from defect_assets.resources import HomeResource
from defect_assets.store import Store
from defect_assets.store.s3 import S3Backend
from defect_assets.store.verify import verify
from tests.conftest import deliver
from tests.servers.s3 import S3Server

Command = Callable[..., str]


def plain_environment() -> dict[str, str]:
    """The environment of a user who has set nothing for AWS or for us."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEFECT_"))}


@pytest.fixture
def url(moto: S3Server) -> str:
    return moto.new_store()


@pytest.fixture
def command(moto: S3Server, url: str, tmp_path: Path) -> Command:
    """defect-assets in a process of its own, with the bucket for a store unless told otherwise."""

    def run(*arguments: str, code: int = 0, **variables: str) -> str:
        home = {"DEFECT_HOME": str(tmp_path / "home"), "DEFECT_STORE": url, "COLUMNS": "300"}
        done = subprocess.run(
            [sys.executable, "-m", "defect_assets", *arguments],
            env=plain_environment() | moto.environment() | home | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def files(folder: Path) -> dict[str, bytes]:
    """What a person sees of a folder."""
    found = ((p, str(p.relative_to(folder))) for p in folder.rglob("*") if p.is_file())
    return {name: p.read_bytes() for p, name in found if not name.startswith(".")}


@pytest.mark.slow
def test_a_home_with_its_store_in_a_bucket(
    command: Command, moto: S3Server, url: str, tmp_path: Path
) -> None:
    command("import", "synthetic", "--tiles", "8", "--name", "week 45 é +1")
    assert "1 taken in" in command("ingest")
    status = json.loads(command("status", "--json"))
    assert (status["store"], status["pending"], status["next"]) == (
        url,
        ["week 45 é +1"],
        "DS-1.0.0",
    )
    assert "DS-1.0.0" in command("cut")
    assert "0 taken in, 1 unchanged" in command("ingest")
    assert "nothing changed" in command("cut")
    assert not (tmp_path / "home" / "store").exists()
    assert (tmp_path / "home" / "cache").is_dir()

    bucket = Store(S3Backend(url, moto.access()))
    assert set(bucket.refs.names()) == {
        "batches/week 45 é +1",
        "datasets/DS-1.0.0",
    }
    # Each process has taken its lease back at its end.
    assert list(bucket.backend.entries("leases")) == []
    assert "all is sound" in command("verify")

    command("checkout", "DS-1.0.0", "out")
    written = files(tmp_path / "out")
    assert sum(name.startswith("images/") for name in written) == 8 * 3  # exposures

    # A copy in a folder, and a home of one's own from the bucket: the same data, by digest.
    folder = str(tmp_path / "copy")
    assert "2 names set" in command("push", folder)
    assert "nothing to copy" in command("push", folder)
    assert "all is sound" in command("verify", DEFECT_STORE=folder)
    mine = {"DEFECT_HOME": str(tmp_path / "mine"), "DEFECT_STORE": ""}
    command("clone", url, "mine", DEFECT_STORE="")
    assert command("log", "--json", **mine) == command("log", "--json")
    command("checkout", "DS-1.0.0", "mine-out", **mine)
    assert files(tmp_path / "mine-out") == written

    # What is damaged in the bucket is found behind the sound copies that are at hand, and mended.
    name = url.split("/")[2]
    held = moto.client().list_objects_v2(Bucket=name)["Contents"]
    key = max(held, key=lambda found: found["Size"])["Key"]  # the pack
    sound = moto.client().get_object(Bucket=name, Key=key)["Body"].read()
    moto.client().put_object(Bucket=name, Key=key, Body=sound[:5000] + b"?" + sound[5001:])
    assert "touches: " in command("verify", code=1)
    assert "repaired" in command("verify", "--repair-from", folder)
    assert moto.client().get_object(Bucket=name, Key=key)["Body"].read() == sound
    assert "all is sound" in command("verify")


@pytest.mark.slow
def test_what_is_wrong_with_a_bucket_is_said_in_a_sentence(command: Command) -> None:
    command("import", "synthetic", "--tiles", "2")
    for variables, said in [
        ({"DEFECT_STORE": "s3://missing/x"}, "error: s3://missing/x: there is no such bucket"),
        ({"DEFECT_STORE": "gs://bucket/x"}, "error: 'gs://bucket/x' is not of the form"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "error: there are no credentials"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "factory"},
            "error: there are no credentials for s3://",
        ),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "must be like http://host:9000"),
    ]:
        shown = command("status", code=1, **variables)
        assert said in shown
        assert "Traceback" not in shown


@pytest.fixture
def leases_end_here(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back at the test's end what a process takes back at its own: the server is gone then."""
    at_exit: list[Callable[[], object]] = []

    def register(function: Callable[..., object], *arguments: object) -> None:
        at_exit.append(partial(function, *arguments))

    with monkeypatch.context() as patched:
        patched.setattr(atexit, "register", register)
        yield
    for function in at_exit:
        function()


@pytest.mark.usefixtures("leases_end_here")
def test_dagster_reaches_a_bucket_by_its_resource_alone(
    moto: S3Server, url: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ.keys() - plain_environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home.root))
    resource = HomeResource(
        root=str(home.root),
        store=url,
        s3=S3Resource(
            endpoint_url=moto.endpoint,
            region_name=moto.region,
            aws_access_key_id=moto.access_key,
            aws_secret_access_key=moto.secret_key,
        ),
    )
    defs = dg.Definitions(
        assets=[raw_images, dataset_manifest],
        asset_checks=[images_are_intact],
        resources={"home": resource},
        executor=dg.in_process_executor,
    )
    job = defs.resolve_implicit_global_asset_job_def()
    deliver(home.inbox, "first", 1, 6)
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        for asset, partition in [("raw_images", "first"), ("dataset_manifest", "DS-1.0.0")]:
            partitions = defs.resolve_asset_graph().get(dg.AssetKey(asset)).partitions_def
            assert isinstance(partitions, dg.DynamicPartitionsDefinition)
            instance.add_dynamic_partitions(partitions.name or "", [partition])
            result = job.execute_in_process(
                instance=instance, asset_selection=[dg.AssetKey(asset)], partition_key=partition
            )
            assert result.success
        [check] = result.get_asset_check_evaluations()
        assert check.passed

    assert not (home.root / "store").exists()
    bucket = Store(S3Backend(url, moto.access()))
    assert verify(bucket).damages == ()
    [materialized] = result.asset_materializations_for_node("dataset_manifest")
    version = (materialized.tags or {})["dagster/data_version"]
    assert bucket.content("datasets/DS-1.0.0") == version
    assert bucket.content("batches/first") is not None
