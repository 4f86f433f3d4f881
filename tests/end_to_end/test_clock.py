"""The clock is set back: what was made in the future stays made, and what is new comes after it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.home import Home
from defect_assets.store.verify import verify
from tests.end_to_end.conftest import Checkout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("faketime") is None, reason="needs Debian's faketime"),
]


def at(when: str, checkout: Checkout, *arguments: str) -> str:
    result = subprocess.run(
        ["faketime", "-m", "-f", when, sys.executable, "-m", "defect_assets", *arguments],
        cwd=checkout.root,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_clock_that_is_set_back_changes_no_decision(
    copy_checkout: Callable[[], Checkout],
) -> None:
    checkout = copy_checkout()
    checkout.cli("import", "synthetic", "--tiles", "8", "--name", "one")
    future = at("+3d", checkout, "repro", "dataset_split")
    assert re.findall(r"✓ (\w+)", future)[-1] == "dataset_split"
    assert "✓" not in checkout.cli("repro", "dataset_split").stdout

    checkout.cli("import", "synthetic", "--first", "20", "--tiles", "4", "--name", "two")
    now = checkout.cli("repro", "dataset_split").stdout
    assert re.findall(r"✓ (\w+) ?(\S*)", now) == [
        ("raw_images", "two"),
        ("dataset_manifest", "DS-1.1.0"),
        ("dataset_split", "DS-1.1.0"),
    ]
    store = Home(checkout.home).store()
    _, snapshot = find_snapshot(store, "DS-1.1.0")
    assert [pin.id for pin in snapshot.batches] == ["one", "two"]
    assert snapshot.parent_id == "DS-1.0.0"
    assert "✓" not in at("-30d", checkout, "repro", "dataset_split")
    assert verify(store).damages == ()
