from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from defect_assets.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on the home in a folder that the tests' own fixture makes."""
    monkeypatch.setenv("DEFECT_HOME", str(root))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("DEFECT_STORE", raising=False)

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
        return result

    return run
