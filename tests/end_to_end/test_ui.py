"""Dagster's UI in a browser, on the home in which the demo was run."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.end_to_end.conftest import NEEDS_CHROMIUM, Checkout, free_port

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def ui(demo: Checkout) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "defect_assets", "dev", "--port", str(port)]
    with demo.background(command, f"http://127.0.0.1:{port}/server_info"):
        yield f"http://127.0.0.1:{port}"


def test_the_lineage_shows_every_asset_and_no_dialog(ui: str, page: Page) -> None:
    page.goto(f"{ui}/asset-groups/")
    page.get_by_text("production").first.wait_for()
    page.wait_for_timeout(2000)
    page.keyboard.press("Alt+e")
    for asset in [
        "python_environment",
        "raw_images",
        "dataset_manifest",
        "dataset_split",
        "training_config",
        "trained_model",
        "evaluation_report",
        "model_release",
        "defect_bento",
    ]:
        page.get_by_text(asset, exact=True).first.wait_for()
    assert page.get_by_text("newsletter").count() == 0


def test_the_experiment_has_curves_and_a_class_table(ui: str, page: Page) -> None:
    experiment = "C-01%7CDS-1.1.0"
    page.goto(f"{ui}/assets/trained_model?view=partitions&partition={experiment}")
    page.get_by_text("[Show Markdown]").first.click()
    curves = page.locator("img[alt='training curves']")
    curves.wait_for()
    assert curves.evaluate("image => image.naturalWidth") > 300
    page.goto(f"{ui}/assets/evaluation_report?view=partitions&partition={experiment}")
    page.get_by_text("Blowhole").first.wait_for()


def test_an_asset_materializes_by_clicking(ui: str, page: Page, demo: Checkout) -> None:
    from defect_assets.home import Home

    store = Home(demo.home).store()
    before = store.refs.get("splits/DS-1.1.0")
    page.goto(f"{ui}/assets/dataset_split?view=partitions&partition=DS-1.1.0")
    page.get_by_text("digest").first.wait_for()
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    expect(dialog.get_by_text("DS-1.1.0").first).to_be_visible()
    dialog.get_by_role("button", name="Launch").click()
    for _ in range(120):
        if store.refs.get("splits/DS-1.1.0") != before:
            break
        page.wait_for_timeout(500)
    record, old = store.record("splits/DS-1.1.0"), before
    assert record is not None
    assert record.previous == old


def test_sensors_and_schedules_are_off_and_go_on_by_clicking(
    ui: str, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{ui}/automation")
    for name in [
        "new_images",
        "enough_is_new",
        "follow_the_data",
        "changed_configs",
        "training_by_policy",
        "release_by_gates",
        "promotion_by_policy",
        "failed_runs",
        "nightly_cut",
        "nightly_verification",
        "weekly_garbage_report",
        "weekly_reevaluation",
    ]:
        expect(_switch(page, name)).not_to_be_checked()
    for name in ("new_images", "nightly_cut"):
        expect(_switch(page, name)).to_be_enabled()
        _switch(page, name).locator("xpath=..").click()
        expect(_switch(page, name)).to_be_checked()
    page.reload()  # it is the instance that remembers
    expect(_switch(page, "new_images")).to_be_checked()
    page.screenshot(path=tmp_path / "automation.png")
    # All was taken in, so the sensor looks and asks for nothing.
    page.get_by_text("new_images", exact=True).click()
    page.get_by_text("0 runs requested").first.wait_for()


def test_a_delivery_shows_its_check(ui: str, page: Page) -> None:
    page.goto(f"{ui}/assets/raw_images?view=checks")
    page.get_by_text("delivery_is_sound").first.wait_for()
    page.get_by_text("Passed").first.wait_for()


def _switch(page: Page, name: str) -> Locator:
    """Return the switch in the row of a sensor or a schedule, beside the box that selects it."""
    row = "xpath=ancestor::*[count(.//input[@type='checkbox'])=2][1]"
    return page.get_by_text(name, exact=True).locator(row).get_by_role("checkbox").last
