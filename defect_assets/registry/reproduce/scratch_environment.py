"""The environment that a result was made in, made again from the lock in the store."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defect_assets.errors import UserError
from defect_assets.registry import installed as measuring
from defect_assets.registry.environment import Environment, locked_names
from defect_assets.registry.installed import installed
from defect_assets.store import Digest, Store, digest_of

_MEASURE = Path(measuring.__file__)


class EnvironmentFailed(UserError):
    """An environment that cannot be made; the message says what uv said."""


@dataclass(frozen=True)
class ScratchEnvironment:
    """An environment to run code of the past in."""

    python: Path
    """Its interpreter."""
    present: bool
    """Whether it is the one of this process."""
    differs: dict[str, tuple[str, str]]
    """How it differs from the recorded one: what was recorded, and what is there, by ``python``,
    ``machine``, ``torch``, ``cuda`` or a package's name. Empty: they are equal."""


def recorded_environment(
    store: Store,
    digest: Digest,
    folder: Path,
    say: Callable[[str], None] = lambda message: None,
) -> ScratchEnvironment:
    """Return the environment with a digest: the present one if it is equal, or else a copy.

    Parameters
    ----------
    store
        Where it and its lock are.
    digest
        See `defect_assets.registry.environment.Environment`.
    folder
        Where copies are kept, each named by its lock: a second result of the same lock needs none.
    say
        Is told what takes long.

    Raises
    ------
    EnvironmentFailed
        If uv cannot make it.
    NotInStore, Corrupted
        If the store lacks it or its lock.
    """
    recorded = Environment.model_validate(store.objects.get_json(digest))
    lock = store.objects.get(recorded.lock).decode()
    here = _differences(recorded, installed(locked_names(lock)))
    if not here:
        return ScratchEnvironment(Path(sys.executable), True, {})
    python = _made(recorded, lock, folder, say)
    return ScratchEnvironment(python, False, _differences(recorded, _measure(python, lock)))


def _made(recorded: Environment, lock: str, folder: Path, say: Callable[[str], None]) -> Path:
    """Return the interpreter of a copy, made where there is none."""
    key = digest_of(f"{recorded.python} {recorded.lock}".encode())[:16]
    kept = folder / key
    python = Path("bin", "python")
    if (kept / python).exists():
        return kept / python
    folder.mkdir(parents=True, exist_ok=True)
    say(f"making an environment of Python {recorded.python} from the recorded lock")
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        environment, requirements = Path(partial) / key, Path(partial) / "requirements.lock"
        requirements.write_text(lock)
        _uv("venv", "--relocatable", "--python", recorded.python, str(environment))
        _uv(
            *("pip", "install", "--python", str(environment / python)),
            *("--require-hashes", "--requirement", str(requirements)),
        )
        try:
            environment.rename(kept)
        except OSError:  # someone else made the same meanwhile
            if not (kept / python).exists():
                raise
    return kept / python


def _uv(*arguments: str) -> None:
    from uv import find_uv_bin

    done = subprocess.run(
        [find_uv_bin(), *arguments], capture_output=True, text=True, check=False, env=_clean()
    )
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise EnvironmentFailed(
            f"the recorded environment cannot be made here; uv {arguments[0]} says:\n{said}"
        )


def _measure(python: Path, lock: str) -> dict[str, Any]:
    done = subprocess.run(
        [python, "-I", _MEASURE],
        input=json.dumps(sorted(locked_names(lock))),
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _differences(recorded: Environment, here: dict[str, Any]) -> dict[str, tuple[str, str]]:
    one = {"python": recorded.python, "machine": recorded.machine, "torch": recorded.torch}
    other = {name: here[name] for name in one}
    one |= {"cuda": recorded.cuda or "none", **recorded.packages}
    other |= {"cuda": here["cuda"] or "none", **here["packages"]}
    return {
        name: (one.get(name, "none"), other.get(name, "none"))
        for name in [*one, *(other.keys() - one.keys())]
        if one.get(name) != other.get(name)
    }


def _clean() -> dict[str, str]:
    """Return this process's variables without those that point to its own environment."""
    return {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
