import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from defect_assets.cli import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        ["repro"],
        ["dev"],
        ["serve"],
        ["env"],
        ["import"],
        ["import", "synthetic"],
        ["import", "magnetic-tiles"],
        ["import", "folder"],
        ["import", "coco"],
        ["import", "cvat"],
        ["import", "label-studio"],
        ["import", "labelme"],
        *(
            [name]
            for name in (
                "ingest",
                "status",
                "cut",
                "log",
                "show",
                "diff",
                "checkout",
                "export",
                "preflight",
                "release",
                "bundle",
                "compare",
                "leaderboard",
                "triage",
                "promote",
                "rollback",
                "channels",
                "lineage",
                "audit",
                "reproduce",
                "verify",
                "gc",
                "push",
                "pull",
                "clone",
            )
        ),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_does_not_wait_for_heavy_imports() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['defect-assets', '--help']\n"
        "from defect_assets.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'dagster', 'pandas', 'bentoml'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_to_run_on_an_empty_home_says_what_to_do() -> None:
    result = runner.invoke(app, ["repro"])
    assert result.exit_code == 1
    assert "import one" in result.output.replace("\n", " ")


def test_preflight_on_an_empty_home_says_what_to_do() -> None:
    assert "import one" in runner.invoke(app, ["preflight"]).output.replace("\n", " ")
    assert runner.invoke(app, ["import", "synthetic", "--tiles", "1"]).exit_code == 0
    result = runner.invoke(app, ["preflight"])
    assert result.exit_code == 1
    assert "holds no dataset version yet: defect-assets repro makes one" in result.output


def test_to_serve_before_a_release_says_what_to_do() -> None:
    result = runner.invoke(app, ["serve"])
    assert result.exit_code == 1
    assert "run defect-assets repro first" in result.output


def test_a_second_dataset_in_one_home_is_refused(tmp_path: Path) -> None:
    assert runner.invoke(app, ["import", "synthetic", "--tiles", "1"]).exit_code == 0
    result = runner.invoke(app, ["import", "magnetic-tiles", "--from", str(tmp_path)])
    assert result.exit_code == 1
    assert "a home holds one dataset" in result.output


def test_what_people_write_is_not_markup(tmp_path: Path) -> None:
    source = tmp_path / "p[line-a]"
    (source / "images").mkdir(parents=True)
    (tmp_path / "c[bold].yaml").write_text("1: scratch\n")
    arguments = ["import", "folder", str(source), "--class-map", str(tmp_path / "c[bold].yaml")]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert "the delivery p[line-a] is refused" in result.output
    result = runner.invoke(app, [*arguments, "--dataset", "My Parts"])
    assert "c[bold].yaml: name: String should match pattern '^[a-z0-9]" in result.output


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    from defect_assets.home import default_home

    assert runner.invoke(app, ["import", "synthetic", "--tiles", "1"]).exit_code == 0
    with default_home().at_work():
        result = runner.invoke(app, ["repro"])
    assert result.exit_code == 1
    assert "is at work on" in result.output


def test_the_environment_can_be_sourced(tmp_path: Path) -> None:
    result = runner.invoke(app, ["env"])
    assert f"export DAGSTER_HOME={tmp_path}/home/dagster" in result.output
    assert f"export BENTOML_HOME={tmp_path}/home/bentoml" in result.output


def test_a_folder_is_imported(tmp_path: Path) -> None:
    from PIL import Image

    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "masks").mkdir()
    for name in ("a", "b"):
        Image.new("L", (30, 40)).save(source / "images" / f"{name}.png")
    Image.new("L", (30, 40), 255).save(source / "masks" / "a.png")
    (tmp_path / "classes.yaml").write_text("1: scratch\n")
    arguments = ["import", "folder", str(source), "--class-map", str(tmp_path / "classes.yaml")]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 images" in result.output
    assert (tmp_path / "home" / "inbox" / "source" / "_COMPLETE").exists()
    again = runner.invoke(app, arguments)
    assert again.exit_code == 1
    assert "choose another with --name" in again.output
    (tmp_path / "classes.yaml").write_text("1: dent\n")
    other = runner.invoke(app, [*arguments, "--name", "more"])
    assert other.exit_code == 1
    assert "describes other classes" in other.output
