"""The environment that everything is computed in."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from defect_assets.registry.installed import installed, version_of
from defect_assets.store import Digest, Store, canonical_json, digest_of

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$", re.M)


class Environment(BaseModel):
    """An environment; its digest is the data version of ``python_environment``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    python: str
    machine: str
    """The processor's kind, e.g. x86_64."""
    torch: str
    """PyTorch's build, with that of CUDA."""
    cuda: str | None
    lock: Digest
    """Digest of requirements.lock."""
    packages: dict[str, str]
    """The locked packages and their versions as installed."""

    @property
    def digest(self) -> Digest:
        """The data version of ``python_environment`` for it."""
        return digest_of(canonical_json(self.model_dump(mode="json")))


def current_environment(lock: Path) -> Environment:
    """Return the environment of this process, as far as the lock file names its packages."""
    return Environment(
        **installed(locked_names(lock.read_text())), lock=digest_of(lock.read_bytes())
    )


def locked_names(lock: str) -> set[str]:
    """Return the packages that a lock file pins."""
    return {match[1] for match in _PIN.finditer(lock)}


def digest_of_environment(lock: Path) -> Digest:
    """Return the data version of ``python_environment`` for the environment of this process."""
    return current_environment(lock).digest


def record_environment(store: Store, lock: Path) -> Digest:
    """Put the environment of this process and its lock file into the store; return its digest."""
    store.objects.put(lock.read_bytes())
    return store.objects.put_json(current_environment(lock).model_dump(mode="json"))


def drift(lock: Path) -> dict[str, tuple[str, str]]:
    """Return the packages whose installed version is none that the lock allows.

    Returns
    -------
    dict
        For each such package the locked and the installed version.
    """
    locked: dict[str, set[str]] = {}
    for match in _PIN.finditer(lock.read_text()):
        locked.setdefault(match[1], set()).add(match[2])
    found = {}
    for name, versions in locked.items():
        installed = version_of(name)
        if installed is not None and installed not in versions:
            found[name] = (" or ".join(sorted(versions)), installed)
    return found
