"""Which code computed a result: the digest of a stage's own sources, and the commit."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from defect_assets.registry.checkout import NoCheckout, read_checkout

_PACKAGE = Path(__file__).resolve().parents[1]


def code_version(*modules: str, files: Iterable[Path] = ()) -> str:
    """Return a digest of some modules and all of this package that they import.

    Comments, docstrings and layout do not count, so that to explain code better does not make
    what it computed out of date.

    Parameters
    ----------
    modules
        Dotted names below this package, e.g. ``training.loop``.
    files
        Files beside the package that the stage uses; of these every byte counts.
    """
    hasher = hashlib.sha256()
    for name, essence in sources(*modules).items():
        hasher.update(name.encode())
        hasher.update(essence.encode())
    for path in files:
        hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()[:16]


def sources(*modules: str, package: Path | None = None) -> dict[str, str]:
    """Return what some modules and all of this package that they import compute.

    Parameters
    ----------
    modules
        Dotted names below this package.
    package
        The package's folder in another checkout; by default this one.

    Returns
    -------
    dict
        By file, below the package and sorted: its syntax tree as text, without docstrings.
    """
    root = package or _PACKAGE
    return {
        path.relative_to(root).as_posix(): _essence(path)
        for path in sorted(_closure(modules, root))
    }


def commit() -> str:
    """Return the checkout's commit, ``+`` where files changed since; empty without one."""
    try:
        checkout = read_checkout(_PACKAGE.parent)
    except NoCheckout:
        return ""
    return checkout.commit + ("+" if checkout.changed else "")


def _closure(modules: tuple[str, ...], package: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [_path(module, package) for module in modules]
    while waiting:
        path = waiting.pop()
        if path is None or path in found:
            continue
        found.add(path)
        waiting += [_path(module, package) for module in _imports(path)]
    return found


def _path(module: str, package: Path) -> Path | None:
    """Return a module's file, or None for a name that is an object rather than a module."""
    base = package.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(path: Path) -> list[str]:
    prefix = f"{_PACKAGE.name}."
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(prefix):
            module = node.module.removeprefix(prefix)
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return names


@cache
def _essence(path: Path) -> str:
    """Return a source's syntax tree as text, without docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        # A bare string is a docstring, wherever it stands; it computes nothing.
        node.body = [  # type: ignore[attr-defined]
            statement
            for statement in body
            if not (
                isinstance(statement, ast.Expr)
                and isinstance(statement.value, ast.Constant)
                and isinstance(statement.value.value, str)
            )
        ]
    return ast.dump(tree)
