"""Those who are compared, each step of theirs a whole process that is timed."""

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.filesets import extent

PYTHON = "3.11"
PROJECT = Path(__file__).resolve().parents[1]
DESCRIPTION = PROJECT / "configs" / "datasets" / "synthetic-tiles.yaml"
STEP_LIMIT = 3600.0
"""Seconds after which a step is ended, with all that it started."""


@dataclass(frozen=True)
class Figure:
    """What one whole process took."""

    seconds: float
    peak_mb: float
    """Of the largest single process; several at once are not added up."""
    cpu_seconds: float
    output: str


class StepFailed(Exception):
    """A step ended with an error, or did not do what it should have."""


# A process begins with the peak memory of the one that it was forked from, so that the benchmark,
# with OpenCV in it, must not start what is measured. The clock runs in here: this start is not
# counted.
_LAUNCH = """
import json, os, subprocess, sys, time
argv, cwd, output = json.load(sys.stdin)
with open(output, "wb") as file:
    start = time.perf_counter()
    step = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    _, status, usage = os.wait4(step.pid, 0)
    seconds = time.perf_counter() - start
code = os.waitstatus_to_exitcode(status)
print(json.dumps([code, seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime]))
"""


def measure(argv: Iterable[str | Path], cwd: Path, environment: dict[str, str]) -> Figure:
    """Run a command and say what it took; what was written before is flushed to the disk first.

    Raises
    ------
    StepFailed
        If it fails, or takes longer than `STEP_LIMIT`.
    """
    command = [str(a) for a in argv]
    handle, output = tempfile.mkstemp(prefix="benchmark-")
    os.close(handle)
    os.sync()
    launcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LAUNCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = launcher.communicate(json.dumps([command, str(cwd), output]), STEP_LIMIT)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{' '.join(command)} took more than {STEP_LIMIT:.0f} s") from None
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()
        text = Path(output).read_text(errors="replace")
        Path(output).unlink()
    code, seconds, peak_mb, cpu_seconds = json.loads(said)
    if code != 0:
        step = " ".join(command)[-200:]
        raise StepFailed(f"{step} in {cwd} ended with {code}:\n{text[-2000:]}")
    return Figure(seconds, peak_mb, cpu_seconds, text)


def install(work: Path, name: str, requirement: str, *beside: str) -> tuple[Path, str]:
    """Return an environment with packages from PyPI, made if it is not there, and a version.

    The version is that of the first package.
    """
    venv = work / f"venv-{name}"
    python = venv / "bin" / "python"
    done = venv / ".installed"
    if not done.exists():
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "uv"
        _quietly([uv, "venv", "--quiet", "--clear", "--python", PYTHON, venv], work)
        # Compiled now, not in the first step.
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        _quietly([*install, requirement, *beside], work)
        done.touch()
    package = re.split(r"[\[=]", requirement)[0]
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    return python, f"{package} {_quietly([python, '-c', ask], work).strip()}"


class Side:
    """One who keeps versions of a folder ``inbox``; steps that it lacks raise AttributeError."""

    name: str
    root: Path
    inbox: Path
    remote: str = ""
    """Where it pushes to; empty if it does not."""

    def deliver(self, source: Path) -> None:
        """Copy a delivery into the inbox, its modification times kept."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        partial = self.inbox / f".partial-{source.name}"
        _quietly(["cp", "-a", "--reflink=never", source, partial], self.root)
        partial.rename(self.inbox / source.name)

    def remove(self) -> None:
        """Remove all that it made."""
        shutil.rmtree(self.root, ignore_errors=True)


class Ours(Side):
    """This repository's commands."""

    def __init__(
        self, program: Path, root: Path, environment: dict[str, str], remote: str = ""
    ) -> None:
        self.name = "ours"
        self.program = program
        self.root = root
        self.remote = remote
        self.inbox = root / "home" / "inbox"
        self.environment = environment

    def begin(self) -> None:
        self.remove()
        self.inbox.mkdir(parents=True)
        shutil.copyfile(DESCRIPTION, self.root / "home" / "dataset.yaml")

    def ingest(self, *deliveries: str) -> Figure:
        return self._run("ingest", *deliveries)

    def version(self, number: int) -> Figure:
        return self._run("cut")

    def status(self) -> Figure:
        return self._run("status")

    def diff(self, before: int, after: int) -> Figure:
        return self._run("diff", _ours(before), _ours(after), "--json")

    def files_of(self, version: int, whole: bool, expected: tuple[int, int]) -> Figure:
        folder = self.root / "files"
        if whole:
            shutil.rmtree(folder, ignore_errors=True)
        figure = self._run("checkout", _ours(version), folder)
        return _with_files(figure, folder, expected)

    def push(self) -> Figure:
        return self._run("push", self.remote)

    def clone(self) -> Figure:
        shutil.rmtree(self.root / "clone", ignore_errors=True)
        return self._run("clone", self.remote, self.root / "clone")

    def files_of_clone(self, version: int, expected: tuple[int, int]) -> Figure:
        folder = self.root / "files-of-clone"
        shutil.rmtree(folder, ignore_errors=True)
        figure = self._run("checkout", _ours(version), folder, home="clone")
        return _with_files(figure, folder, expected)

    def pull(self) -> Figure:
        return self._run("pull", self.remote, home="clone")

    def _run(self, *arguments: str | Path, home: str = "home") -> Figure:
        environment = self.environment | {"DEFECT_HOME": str(self.root / home)}
        return measure([self.program, *arguments], self.root, environment)


def _ours(version: int) -> str:
    return f"DS-1.{version}.0"


class Dvc(Side):
    """DVC in a git repository of its own, with nothing shared between clones."""

    def __init__(
        self,
        name: str,
        python: Path,
        root: Path,
        environment: dict[str, str],
        settings: dict[str, str],
        remote: str = "",
    ) -> None:
        self.name = name
        self.python = python
        self.root = root
        self.remote = remote
        self.repository = root / "repository"
        self.inbox = self.repository / "inbox"
        self.settings = {"core.check_update": "false", "core.analytics": "false"} | settings
        if remote:
            self.settings |= {"core.remote": "s3", 'remote "s3".url': remote}
            if endpoint := environment.get("AWS_ENDPOINT_URL"):
                self.settings['remote "s3".endpointurl'] = endpoint
        self.environment = environment | {
            "DVC_NO_ANALYTICS": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(root / "config"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "benchmark",
            "GIT_AUTHOR_EMAIL": "benchmark@example.com",
            "GIT_COMMITTER_NAME": "benchmark",
            "GIT_COMMITTER_EMAIL": "benchmark@example.com",
        }

    def begin(self) -> None:
        self.remove()
        self.repository.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch", "main")
        self._run("init", "--quiet")
        config = configparser.ConfigParser()
        for key, value in self.settings.items():
            section, _, option = key.rpartition(".")
            section = f"'{section}'" if " " in section else section  # DVC's own way to write it
            config.read_dict({section: {option: value}})
        with (self.repository / ".dvc" / "config").open("w") as file:
            config.write(file)
        self._git("add", ".")
        self._git("commit", "--quiet", "--message", "begin")

    def ingest(self) -> Figure:
        return self._run("add", "inbox")

    def version(self, number: int) -> None:
        """Tag what was added: git's work, tens of milliseconds, and not counted."""
        self._git("add", "inbox.dvc", ".gitignore")
        self._git("commit", "--quiet", "--message", str(number))
        self._git("tag", f"v{number}")

    def status(self) -> Figure:
        return self._run("status")

    def diff(self, before: int, after: int) -> Figure:
        return self._run("diff", f"v{before}", f"v{after}", "--json")

    def files_of(self, version: int, whole: bool, expected: tuple[int, int]) -> Figure:
        if whole:
            shutil.rmtree(self.inbox)
        self._git("checkout", "--quiet", f"v{version}", "--", "inbox.dvc")
        return _with_files(self._run("checkout"), self.inbox, expected)

    def push(self) -> Figure:
        return self._run("push")

    def clone(self) -> Figure:
        shutil.rmtree(self.root / "clone", ignore_errors=True)
        shutil.rmtree(self.root / "site-of-clone", ignore_errors=True)
        _quietly(["git", "clone", "--quiet", self.repository, self.root / "clone"], self.root)
        return self._run("fetch", clone=True)

    def files_of_clone(self, version: int, expected: tuple[int, int]) -> Figure:
        figure = self._run("checkout", clone=True)
        return _with_files(figure, self.root / "clone" / "inbox", expected)

    def pull(self) -> Figure:
        self._git("pull", "--quiet", clone=True)
        return self._run("pull", clone=True)

    def _run(self, *arguments: str, clone: bool = False) -> Figure:
        site = self.root / ("site-of-clone" if clone else "site")
        environment = self.environment | {"DVC_SITE_CACHE_DIR": str(site)}
        folder = self.root / "clone" if clone else self.repository
        program = self.python.with_name("dvc")
        return measure([program, *arguments], folder, environment)

    def _git(self, *arguments: str, clone: bool = False) -> None:
        folder = self.root / "clone" if clone else self.repository
        _quietly(["git", *arguments], folder, self.environment)


# Oxen's package has no command-line tool, and importing it imports pandas and polars. Its library
# alone is the nearest to what a tool of theirs would take, and what we compare with.
_OXEN_LIBRARY = """
import sysconfig
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
path = sysconfig.get_paths()["platlib"] + "/oxen/oxen_py.abi3.so"
loader = ExtensionFileLoader("oxen_py", path)
oxen = module_from_spec(spec_from_loader("oxen_py", loader))
loader.exec_module(oxen)
"""
_OXEN_STEP = """
import os, sys
repository = oxen.PyRepo(os.getcwd())
match sys.argv[1]:
    case "init":
        config = str(oxen.util.get_oxen_config_dir()) + "/user_config.toml"
        oxen.user.config_user("benchmark", "benchmark@example.com", config)
        repository.init()
    case "add":
        repository.add(sys.argv[2])
    case "commit":
        print(repository.commit("benchmark"))
    case "status":
        print(repository.status())
"""


class Oxen(Side):
    """Oxen's library from PyPI, one process a step."""

    def __init__(self, python: Path, root: Path, environment: dict[str, str]) -> None:
        self.name = "Oxen"
        self.python = python
        self.root = root
        self.inbox = root / "repository" / "inbox"
        self.environment = environment | {"HOME": str(root)}

    def begin(self) -> None:
        self.remove()
        self.inbox.parent.mkdir(parents=True)
        self._run("init")

    def ingest(self) -> Figure:
        return self._run("add", self.inbox)

    def version(self, number: int) -> Figure:
        return self._run("commit")

    def status(self) -> Figure:
        return self._run("status")

    def status_imported(self) -> Figure:
        """The same by the package's own import, as a user's script has it."""
        return self._run("status", library="import oxen")

    def _run(self, *arguments: str | Path, library: str = _OXEN_LIBRARY) -> Figure:
        step = [self.python, "-I", "-c", library + _OXEN_STEP, *arguments]
        return measure(step, self.inbox.parent, self.environment)


def _with_files(figure: Figure, folder: Path, expected: tuple[int, int]) -> Figure:
    if (found := extent(folder)) != expected:
        raise StepFailed(f"images and masks in {folder}, and bytes: {found}, not {expected}")
    return figure


def _quietly(
    argv: Iterable[str | Path], cwd: Path, environment: dict[str, str] | None = None
) -> str:
    command = [str(a) for a in argv]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise StepFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
