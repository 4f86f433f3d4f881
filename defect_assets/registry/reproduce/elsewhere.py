"""Running a script with the code of another commit, by another interpreter."""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class ScriptFailed(Exception):
    """A script that ended with an error.

    Attributes
    ----------
    status
        Its exit status.
    said
        The lines of its error output.
    """

    def __init__(self, status: int, said: list[str]) -> None:
        super().__init__(said[-1])
        self.status = status
        self.said = said


def run_script(
    python: Path, script: Path, code: Path, folder: Path, say: Callable[[str], None]
) -> None:
    """Run a script in another process, which ends when this one is interrupted.

    Parameters
    ----------
    python
        The interpreter.
    script
        The script; what lies beside it is not found by it.
    code
        The folder in which the package lies that it imports.
    folder
        Its argument, and its working folder: what goes in and out.
    say
        Is told, line by line, what it prints.

    Raises
    ------
    ScriptFailed
        If it fails.
    """
    variables = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    with (folder / "errors.txt").open("w+") as errors:
        # -P: what lies beside the script, as code.py, must not hide what others import.
        process = subprocess.Popen(
            [python, "-P", script, folder],
            cwd=folder,
            env={**variables, "PYTHONPATH": str(code)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # with all processes that it starts
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                say(line.strip())
            status = process.wait()
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status:
            errors.seek(0)
            raise ScriptFailed(status, errors.read().strip().splitlines() or ["nothing"])
