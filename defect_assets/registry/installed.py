"""What is installed beside an interpreter. Needs nothing but Python, so that any can run it."""

import importlib.util
import json
import os
import platform
import runpy
import site
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any


def installed(names: Iterable[str]) -> dict[str, Any]:
    """Return Python's version, the processor's kind, PyTorch's build, and some packages' versions.

    What is not installed is left out; PyTorch's build is empty then.
    """
    packages = {}
    for name in sorted(set(names)):
        if version := version_of(name):  # else it is locked for another platform or another Python
            packages[name] = version
    torch = _torch_version()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": torch.get("__version__", ""),
        "cuda": torch.get("cuda"),
        "packages": packages,
    }


def version_of(name: str) -> str | None:
    """Return the version of an installed package, or None where there is none.

    What a package brings for itself alone does not count: Ray, once it is imported, leads Python to
    packages of its own before those that are installed.
    """
    own = [f"{folder}{os.sep}" for folder in site.getsitepackages()]
    path = [entry for entry in sys.path if not any(entry.startswith(folder) for folder in own)]
    found = next(iter(metadata.distributions(name=name, path=path)), None)
    return found.version if found else None


def _torch_version() -> dict[str, Any]:
    """Read PyTorch's version from its file: to import it would take seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    return runpy.run_path(str(Path(spec.origin).with_name("version.py")))


if __name__ == "__main__":
    print(json.dumps(installed(json.load(sys.stdin))))
