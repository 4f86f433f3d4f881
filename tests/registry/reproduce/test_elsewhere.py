import sys
import time
from pathlib import Path

import psutil
import pytest

from defect_assets.registry.reproduce.elsewhere import ScriptFailed, run_script


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Code of another commit, which hides this one's."""
    folder = tmp_path / "code"
    (folder / "defect_assets").mkdir(parents=True)
    (folder / "defect_assets" / "__init__.py").write_text("AGE = 'old'\n")
    return folder


def script(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemError('what lies beside a script')\n")
    path = folder / "script.py"
    path.write_text(f"import json, sys, defect_assets\n{text}\n")
    return path


def test_a_script_finds_the_other_code_and_is_heard(tmp_path: Path, code: Path) -> None:
    path = script(tmp_path, "print(defect_assets.AGE)\nprint(sys.argv[1])\nopen('out', 'w')")
    (tmp_path / "folder").mkdir()
    said: list[str] = []
    run_script(Path(sys.executable), path, code, tmp_path / "folder", said.append)
    assert said == ["old", str(tmp_path / "folder")]
    assert (tmp_path / "folder" / "out").exists()


def test_a_script_that_fails_says_why(tmp_path: Path, code: Path) -> None:
    path = script(tmp_path, "print('no luck', file=sys.stderr)\nsys.exit(3)")
    with pytest.raises(ScriptFailed, match="no luck") as caught:
        run_script(Path(sys.executable), path, code, tmp_path, print)
    assert caught.value.status == 3


def test_whoever_is_interrupted_leaves_no_process(tmp_path: Path, code: Path) -> None:
    spawn = "import subprocess, time\nsubprocess.Popen(['sleep', '61.5'])"
    path = script(tmp_path, f"{spawn}\nprint('ready', flush=True)\ntime.sleep(60)")

    def interrupt(message: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_script(Path(sys.executable), path, code, tmp_path, interrupt)
    deadline = time.monotonic() + 10  # a killed process takes a moment to go
    while (left := running("61.5", str(path))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def running(*words: str) -> list[list[str]]:
    """Return the commands that run and have one of some words."""
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if set(words) & set(command)]
