"""The check that a bento answers, where there is nothing that could."""

from pathlib import Path

import dagster as dg
from dagster_aws.s3 import S3Resource

from defect_assets.checks.service import bento_answers
from defect_assets.resources import HomeResource
from tests.releases import publish_release
from tests.small import home_of


def checked(root: Path) -> dg.AssetCheckResult:
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_asset_check_context(instance=instance)
        result = bento_answers(context, home=HomeResource(root=str(root), s3=S3Resource()))
    assert isinstance(result, dg.AssetCheckResult)
    return result


def test_where_nothing_is_released_nothing_is_asked(tmp_path: Path) -> None:
    result = checked(home_of(tmp_path).root)
    assert result.passed
    assert result.description == "nothing is released yet"


def test_a_bento_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    publish_release(home.store(), "v0.1.0")
    result = checked(home.root)
    assert not result.passed
    assert "the bento of v0.1.0 is not in" in (result.description or "")
