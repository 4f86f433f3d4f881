"""Versions of the data by the command line, on a small home."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from defect_assets.cli import app
from defect_assets.home import Home
from tests.commands.conftest import Run
from tests.small import deliver, home_of, mask, picture, plain


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = home_of(tmp_path / "home")
    plain(home, "first", range(12))
    return home


@pytest.fixture
def root(home: Home) -> Path:
    return home.root


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture
def history(home: Home, run: Run) -> None:
    """DS-1.0.0; DS-1.0.1: s001 relabelled; DS-2.0.0: s002 removed, s012 to s014 added."""
    run("ingest")
    run("cut", "--notes", "how it began")
    deliver(home, "fix", {}, {"s001": mask(1, 99)})
    run("ingest")
    run("cut")
    plain(home, "second", range(12, 15))
    deliver(home, "removal", {}, {}, remove=["s002"])
    run("ingest")
    run("cut")


def test_status_tells_what_comes_next(home: Home, run: Run) -> None:
    assert "no version" not in run("status").output
    told = _json(run("status", "--json"))
    assert told["inbox"] == {"first": "new"}
    assert (told["newest"], told["next"], told["pending"]) == (None, None, [])
    assert "takes in what is new" in run("status").output

    assert "1 taken in, 0 unchanged" in run("ingest").output
    told = _json(run("status", "--json"))
    assert told["inbox"] == {"first": "taken in"}
    assert (told["next"], told["pending"]) == ("DS-1.0.0", ["first"])
    assert "would be DS-1.0.0: 12 samples added" in run("status").output

    run("cut")
    told = _json(run("status", "--json"))
    assert (told["newest"], told["next"]) == ("DS-1.0.0", None)
    assert "0 taken in, 1 unchanged" in run("ingest").output
    assert "nothing changed since DS-1.0.0" in run("cut").output


def test_what_was_taken_in_may_not_change(home: Home, run: Run) -> None:
    run("ingest")
    image = home.inbox / "first" / "images" / "s003.png"
    image.write_bytes(picture(77))
    assert _json(run("status", "--json"))["inbox"]["first"] == "touched since it was taken in"
    assert "has changed since" in run("ingest", code=1).output
    image.write_bytes(picture(3))  # restored: other times, the same content
    assert "0 taken in, 1 unchanged" in run("ingest").output
    assert _json(run("status", "--json"))["inbox"]["first"] == "taken in"


def test_one_bad_delivery_is_no_reason_to_leave_the_others(home: Home, run: Run) -> None:
    deliver(home, "bad", {"x": b"no image"}, {})
    plain(home, "good", range(20, 22))
    result = run("ingest", code=1)
    assert "2 taken in" in result.output
    assert "the delivery bad is refused whole" in result.output
    assert "images/x.png: it is not an image" in result.output
    assert _json(run("status", "--json"))["inbox"] == {
        "first": "taken in",
        "good": "taken in",
    }
    assert "rejected/bad now: mend it" in result.output.replace("\n", "")
    assert json.loads((home.rejected / "bad" / "reasons.json").read_text())[0]["file"]
    assert "there is no delivery nobody" in run("ingest", "nobody", code=1).output


def test_versions_number_themselves(history: None, run: Run) -> None:
    told = _json(run("log", "--json"))
    assert [version["id"] for version in told] == ["DS-2.0.0", "DS-1.0.1", "DS-1.0.0"]
    assert told[2]["notes"] == "how it began"
    assert [version["samples"] for version in told] == [14, 12, 12]
    text = run("log").output
    assert text.index("DS-2.0.0") < text.index("DS-1.0.1") < text.index("how it began")

    shown = _json(run("show", "DS-1.0.1", "--json"))
    assert shown["parent_id"] == "DS-1.0.0"
    assert shown["record"]["parents"]["python_environment"]
    assert shown["digest"] == shown["record"]["content"]
    assert "1 sample relabelled (Crack 1)" in run("show", "DS-1.0.1").output
    assert "there is no dataset DS-9.0.0; known: DS-1.0.0" in run("show", "DS-9.0.0", code=1).output


def test_a_version_can_be_raised_and_not_lowered(home: Home, run: Run) -> None:
    run("ingest")
    assert "so the next version is DS-1.0.0" in run("cut", "--as", "DS-0.9.0", code=1).output
    run("cut")
    plain(home, "second", range(12, 15))
    run("ingest")
    for lower in ("DS-1.0.1", "DS-1.0.0", "DS-1.2.0", "DS-3.0.0"):
        assert "the next version is DS-1.1.0" in run("cut", "--as", lower, code=1).output
    assert "is not a version" in run("cut", "--as", "two", code=1).output
    assert "DS-2.0.0" in run("cut", "--as", "DS-2.0.0").output


def test_a_difference_is_told_and_shown(history: None, run: Run, tmp_path: Path) -> None:
    told = _json(run("diff", "DS-1.0.0", "DS-2.0.0", "--samples", "--json"))
    assert told["changelog"]["removed"] == {"Hole": 1}
    changes = {row["sample"]: row["change"] for row in told["samples"]}
    assert changes == {
        "s001": "relabelled",
        "s002": "removed",
        "s012": "added",
        "s013": "added",
        "s014": "added",
    }
    backwards = _json(run("diff", "DS-2.0.0", "DS-1.0.0", "--samples", "--json"))
    turned = {"added": "removed", "removed": "added", "relabelled": "relabelled"}
    assert {row["sample"]: turned[row["change"]] for row in backwards["samples"]} == changes
    assert "samples" not in _json(run("diff", "DS-1.0.0", "DS-2.0.0", "--json"))
    assert "nothing changed" in run("diff", "DS-1.0.0", "DS-1.0.0").output

    page = tmp_path / "pages" / "diff.html"
    run("diff", "DS-1.0.0", "DS-2.0.0", "--html", str(page))
    html = page.read_text()
    assert html.count("<img") == 2 + 1 + 3
    assert "s001" in html
    assert "http" not in html.replace("http-equiv", "")  # nothing from outside


@pytest.mark.parametrize(
    ("format", "file"),
    [("folder", "samples.csv"), ("coco", "annotations/instances.json"), ("yolo", "data.yaml")],
)
def test_a_version_is_exported(
    history: None, run: Run, tmp_path: Path, format: str, file: str
) -> None:
    out = tmp_path / "out"
    assert "14 images" in run("export", "DS-2.0.0", str(out), "--format", format).output
    assert (out / file).exists()
    assert len([p for p in (out / "images").rglob("*") if p.is_file()]) == 14
    run("export", "DS-2.0.0", str(out), "--format", format, code=1)


def test_what_was_exported_is_the_same_when_imported(
    history: None, run: Run, home: Home, tmp_path: Path
) -> None:
    run("export", "DS-2.0.0", str(tmp_path / "coco"), "--format", "coco")
    other = str(tmp_path / "other")
    source = str(tmp_path / "coco" / "annotations" / "instances.json")
    images = str(tmp_path / "coco" / "images")
    run("--home", other, "import", "coco", source, "--images", images, "--dataset", "small")
    run("--home", other, "ingest")
    run("--home", other, "cut")
    there = _json(run("--home", other, "show", "DS-1.0.0", "--json"))
    here = _json(run("--home", str(home.root), "show", "DS-2.0.0", "--json"))
    assert there["groups"] == here["groups"]
    assert sum(there["counts"].values()) == sum(here["counts"].values())
    assert {k: v for k, v in there["counts"].items() if k != "defect-free"} == {
        k: v for k, v in here["counts"].items() if k != "Free"
    }


def test_a_checkout_goes_from_version_to_version(history: None, run: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    files = 12 + 8  # images, and masks of those that are not free
    assert f"{files} files, {files} written" in run("checkout", "DS-1.0.0", out).output
    assert f"{files} files, 1 written, 0 removed" in run("checkout", "DS-1.0.1", out).output
    run("checkout", "DS-2.0.0", out)
    assert not (tmp_path / "out" / "images" / "s002.png").exists()
    assert (tmp_path / "out" / "images" / "s003.png").read_bytes() == picture(3)


def test_stores_are_copied_and_cleaned(history: None, run: Run, home: Home, tmp_path: Path) -> None:
    assert "all is sound" in run("verify").output
    copy = str(tmp_path / "copy")
    assert "names set" in run("push", copy).output
    assert "nothing to copy" in run("push", copy).output
    assert "is a home now" in run("clone", copy, str(tmp_path / "clone")).output
    told = _json(run("--home", str(tmp_path / "clone"), "log", "--json"))
    assert told == _json(run("--home", str(home.root), "log", "--json"))
    assert "there is no store in" in run("pull", str(tmp_path / "nowhere"), code=1).output

    run("--home", str(home.root), "status")
    home.store().objects.put(b"nobody names this")
    assert "24 hours" in run("gc").output
    told = _json(run("gc", "--older-than", "0", "--json"))
    assert (len(told["keys"]), told["deleted"]) == (1, False)
    assert _json(run("gc", "--older-than", "0", "--delete", "--json"))["deleted"]
    assert _json(run("gc", "--older-than", "0", "--json"))["keys"] == []
    assert "all is sound" in run("verify").output


def test_a_home_without_a_dataset_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(tmp_path / "none"))
    for command in (["status"], ["ingest"], ["cut"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        assert "holds no dataset yet" in result.output.replace("\n", " ")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [["status"], ["log"], ["diff", "DS-1.0.0", "DS-1.0.1"]])
def test_quick_commands_import_nothing_heavy(history: None, command: list[str]) -> None:
    """Pandas and Dagster take longer to import than these take to work."""
    script = (
        "import sys\n"
        "from defect_assets.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'pandas', 'dagster', 'torch', 'cv2', 'boto3'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, *command], check=True)
