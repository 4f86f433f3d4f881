"""The whole road as a user takes it: one command, then again, then after a change."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import yaml

from defect_assets.dataset.snapshot import find_snapshot
from defect_assets.home import Home
from tests.checkouts import commit_all
from tests.end_to_end.conftest import Checkout

pytestmark = pytest.mark.slow


def _materialized(output: str) -> list[str]:
    """The assets that were materialized, in order."""
    return re.findall(r"✓ (\w+)", output)


def test_one_command_takes_the_whole_road(demo: Checkout) -> None:
    output = (demo.root / "demo.txt").read_text()
    assert "[pipes]" not in output  # Dagster's own words, of how it talks to the training
    assert _materialized(output) == [
        "python_environment",
        "raw_images",
        "dataset_manifest",
        "raw_images",
        "dataset_manifest",
        "dataset_split",
        "training_config",
        "trained_model",
        "evaluation_report",
        "model_release",
        "defect_bento",
    ]
    store = Home(demo.home).store()
    first, second = (find_snapshot(store, name)[1] for name in ("DS-1.0.0", "DS-1.1.0"))
    assert (first.samples, second.samples) == (450, 720)
    assert second.parent_id == "DS-1.0.0"
    assert second.changelog.added
    for shown in ["DS-1.1.0", "C-01", "v0.1.0", "parts never seen", "make dev", "make serve"]:
        assert shown in output
    assert (demo.home / "reports" / "DS-1.1.0-C-01" / "report.html").stat().st_size > 50_000
    assert (demo.home / "bentoml" / "bentos" / "defect_detector" / "v0.1.0").is_dir()
    dice = re.search(r"Dice, IoU\s+(0\.\d+)", output)
    assert dice is not None
    assert float(dice[1]) > 0.3  # a small network, for a moment; `make demo` is asked for more


def test_a_second_time_all_is_up_to_date(demo: Checkout) -> None:
    output = demo.cli("demo").stdout
    assert "All is up to date" in output
    assert _materialized(output) == []
    assert "v0.1.0" in output


def test_a_changed_configuration_trains_again_and_nothing_before_it(
    demo: Checkout, copy_checkout: Callable[[], Checkout]
) -> None:
    changed = copy_checkout()
    shutil.copytree(demo.home, changed.home)
    changed.configure(steps=40)
    output = changed.cli("repro").stdout
    assert _materialized(output) == [
        "training_config",
        "trained_model",
        "evaluation_report",
        "model_release",
        "defect_bento",
    ]
    assert "trained_model DS-1.1.0 × C-01 (configuration C-01 changed: steps 500 → 40)" in output
    assert "v0.2.0" in output
    assert "All is up to date" in changed.cli("repro").stdout


def test_what_is_gone_is_made_again(demo: Checkout, copy_checkout: Callable[[], Checkout]) -> None:
    checkout = copy_checkout()
    shutil.copytree(demo.home, checkout.home)
    shutil.rmtree(checkout.home / "bentoml")
    assert _materialized(checkout.cli("repro").stdout) == ["defect_bento"]
    shutil.rmtree(checkout.home / "store")
    again = _materialized(checkout.cli("repro").stdout)
    assert again[0] == "python_environment"
    assert again.count("raw_images") == 2
    assert again[-1] == "defect_bento"
    assert "All is up to date" in checkout.cli("repro").stdout


def test_a_new_delivery_becomes_the_next_version(
    demo: Checkout, copy_checkout: Callable[[], Checkout]
) -> None:
    grown = copy_checkout()
    shutil.copytree(demo.home, grown.home)
    grown.cli("import", "synthetic", "--first", "500", "--tiles", "5", "--name", "week-47")
    output = grown.cli("repro").stdout
    assert "dataset_manifest DS-1.2.0" in output
    assert "python_environment" not in output
    assert "raw_images line-1" not in output


def test_a_refused_delivery_stops_the_road_with_its_list(
    copy_checkout: Callable[[], Checkout],
) -> None:
    checkout = copy_checkout()
    checkout.cli("import", "synthetic", "--tiles", "3", "--name", "bad")
    for image in sorted((checkout.home / "inbox" / "bad" / "images").iterdir())[:2]:
        image.write_bytes(b"rubbish")
    result = checkout.cli("repro", check=False)
    assert result.returncode == 1
    assert "the delivery bad is refused whole, 2 problems" in result.stderr
    assert "images/tile-0001-exp1.jpg: it is not an image" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_what_was_interrupted_goes_on_where_it_stopped(
    copy_checkout: Callable[[], Checkout],
) -> None:
    checkout = copy_checkout()
    checkout.configure(steps=100_000)
    command = [sys.executable, "-u", "-m", "defect_assets", "demo"]
    process = subprocess.Popen(
        command,
        cwd=checkout.root,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    seen = ""
    deadline = time.monotonic() + 180
    while "training on" not in seen and time.monotonic() < deadline:
        seen += process.stdout.readline()
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "interrupted; run the same command again to go on" in rest
    checkout.configure(steps=30)
    assert _materialized(checkout.cli("demo").stdout)[:2] == ["training_config", "trained_model"]


def test_a_training_that_was_killed_is_taken_over(
    demo: Checkout, copy_checkout: Callable[[], Checkout]
) -> None:
    checkout = copy_checkout()
    shutil.copytree(demo.home, checkout.home)
    checkout.configure(steps=100_000)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "defect_assets", "repro"],
        cwd=checkout.root,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "training on" in line:
            break
    refused = checkout.cli("preflight", check=False)
    assert refused.returncode == 1
    assert f"process {process.pid} on " in refused.stdout
    process.kill()
    process.communicate()
    assert "✓ nobody else is training it" in checkout.cli("preflight").stdout
    checkout.configure(steps=30)
    output = checkout.cli("repro").stdout
    assert f"taken over from process {process.pid} on " in output
    assert "v0.2.0" in output


def test_what_was_explored_is_released_once_it_is_committed(
    demo: Checkout, copy_checkout: Callable[[], Checkout]
) -> None:
    checkout = copy_checkout()
    shutil.copytree(demo.home, checkout.home)
    assert _materialized(checkout.cli("repro", "--allow-unpinned").stdout) == []  # all is pinned

    checkout.configure(steps=30, commit=False)
    refused = checkout.cli("repro", check=False)
    assert refused.returncode == 1
    assert "configs/C-01.yaml is not committed as it is" in refused.stderr
    assert "mend it: git add configs/C-01.yaml && git commit" in refused.stderr
    assert "--allow-unpinned" in refused.stderr

    explored = checkout.cli("repro", "--allow-unpinned").stdout
    assert _materialized(explored) == ["trained_model", "evaluation_report"]
    assert "is unpinned, so it is not released" in explored
    assert "v0.2.0" not in explored
    assert _materialized(checkout.cli("repro", "--allow-unpinned").stdout) == []
    assert checkout.cli("repro", check=False).returncode == 1
    found = json.loads(checkout.cli("preflight", "--json", check=False).stdout)
    assert [f["checked"] for f in found if f["wrong"]] == [
        "the code is a clean commit",
        "the configuration is committed and recorded",
    ]

    commit_all(checkout.root)
    assert "✗" not in checkout.cli("preflight").stdout
    output = checkout.cli("repro").stdout
    assert "trained_model DS-1.1.0 × C-01 (it was trained unpinned)" in output
    assert _materialized(output) == [
        "trained_model",
        "evaluation_report",
        "model_release",
        "defect_bento",
    ]
    assert "v0.2.0" in output
    assert "All is up to date" in checkout.cli("repro").stdout


def test_what_fails_its_gates_is_trained_once_and_released_for_a_reason(
    demo: Checkout, copy_checkout: Callable[[], Checkout]
) -> None:
    checkout = copy_checkout()
    shutil.copytree(demo.home, checkout.home)
    gates = {"floors": {"dice": 0.999}, "no_class_worse_than_production": True}
    (checkout.root / "configs" / "gates.yaml").write_text(yaml.safe_dump(gates))
    checkout.cli("promote", "v0.1.0", "production", "--why", "the first one")
    checkout.configure(steps=40)
    refused = checkout.cli("repro", check=False)
    assert refused.returncode == 1
    assert _materialized(refused.stdout)[-1] == "evaluation_report"
    assert "DS-1.1.0 × C-01 is not released: it fails 2 of 3 gates" in refused.stderr
    assert "✗ Dice: 0." in refused.stderr
    assert "✗ no class worse than production: " in refused.stderr
    assert "report.html" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = checkout.cli("repro", check=False)
    assert again.returncode == 1
    assert _materialized(again.stdout) == []

    released = checkout.cli("release", "--override", "the line waits for it").stdout
    assert _materialized(released) == ["model_release", "defect_bento"]
    assert "the line waits for it" in released
    assert "All is up to date" in checkout.cli("repro").stdout
    checkout.cli("bundle", "v0.2.0", "--to", str(checkout.root / "out"))
    check = ["sha256sum", "--check", "--quiet", "MANIFEST.sha256"]
    subprocess.run(check, cwd=checkout.root / "out", check=True)
