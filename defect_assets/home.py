"""Where things lie: the checkout with its configurations, the home with all that is produced."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from defect_assets.cluster.connection import ADDRESS, DEPLOY, on_ray
from defect_assets.dataset.bucket_inbox import BucketInbox, open_bucket_inbox
from defect_assets.dataset.description import (
    DatasetDescription,
    write_description,
)
from defect_assets.errors import UserError
from defect_assets.settings import SettingsError, read_settings
from defect_assets.spreading import Spread
from defect_assets.store import S3Access, Store, open_store

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "configs"
LOCK = PROJECT / "requirements.lock"
POSTGRES = "DEFECT_POSTGRES"
"""The variable that names Dagster's database, where it is none of its own files."""


class HomeError(UserError):
    """A home that cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class Home:
    """A folder that holds one dataset and all that comes of it.

    Parameters
    ----------
    root
        The folder. It is made when something is first written.
    store_url
        A folder or ``s3://bucket/prefix``; by default the folder ``store`` in the home.
    access
        How the buckets are reached; by default as the usual AWS environment says.
    inbox_url
        ``s3://bucket/prefix`` from which deliveries are fetched into the inbox; by default nowhere.
    """

    root: Path
    store_url: str = ""
    access: S3Access | None = None
    inbox_url: str = ""

    @property
    def inbox(self) -> Path:
        """Where deliveries arrive."""
        return self.root / "inbox"

    @property
    def bucket_inbox(self) -> BucketInbox | None:
        """The bucket from which deliveries are fetched into the inbox, if there is one."""
        return open_bucket_inbox(self.inbox_url, self.access) if self.inbox_url else None

    @property
    def fetched(self) -> Path:
        """What each delivery in the bucket was like when it was fetched."""
        return self.root / "fetched"

    @property
    def rejected(self) -> Path:
        """Where deliveries are that were refused, each with its list of reasons."""
        return self.root / "rejected"

    @property
    def dataset(self) -> Path:
        """The dataset's description."""
        return self.root / "dataset.yaml"

    @property
    def taken(self) -> Path:
        """What the files of each delivery were like when it was taken in."""
        return self.root / "taken"

    @property
    def dagster(self) -> Path:
        """Dagster's instance."""
        return self.root / "dagster"

    @property
    def bentoml(self) -> Path:
        """BentoML's models and bentos."""
        return self.root / "bentoml"

    @property
    def reports(self) -> Path:
        """Reports as files, to be opened in a browser; the store holds them too."""
        return self.root / "reports"

    @property
    def fitted(self) -> Path:
        """Images at the resolution of networks, decoded once; it may be removed at any time."""
        return self.root / "fitted"

    def training(self, dataset: str, config: str) -> Path:
        """Return where an experiment's training keeps its state, to go on from."""
        return self.root / "training" / f"{dataset}-{config}"

    @property
    def tensorboard(self) -> Path:
        """Curves and pictures of trainings, for TensorBoard."""
        return self.root / "tensorboard"

    @property
    def reproductions(self) -> Path:
        """Where releases are made again, by their versions."""
        return self.root / "reproductions"

    @property
    def triage(self) -> Path:
        """Where the trainings of triages keep their state, to go on from."""
        return self.root / "triage"

    @property
    def environments(self) -> Path:
        """Environments that were made from recorded locks; it may be removed at any time."""
        return self.root / "environments"

    def report(self, dataset: str, config: str) -> Path:
        """Return the folder of an experiment's report."""
        return self.reports / f"{dataset}-{config}"

    @property
    def cache(self) -> Path:
        """What was read of a bucket; it may be removed at any time."""
        return self.root / "cache"

    @property
    def url(self) -> str:
        """Where the store is."""
        return self.store_url or str(self.root / "store")

    def store(self, cached: bool = True) -> Store:
        """Open the home's store; of one in a bucket, what was read is kept in ``cache``."""
        return open_store(self.url, self.access, self.cache if cached else None)

    def spread(self, here: Spread, gpus: float = 0) -> Spread:
        """Return what divides work: the cluster where there is one, or else ``here``.

        Of how much of a GPU a task has use, ``gpus`` says.
        """
        if not on_ray():
            return here
        from defect_assets.cluster.spreading import OnRay

        return OnRay(self.access.where() if self.access else {}, gpus)

    def description(self) -> DatasetDescription:
        """Read the dataset's description.

        Raises
        ------
        HomeError
            If there is none yet.
        SettingsError
            If it cannot be used.
        """
        if not self.dataset.exists():
            raise HomeError(
                f"{self.root} holds no dataset yet: import one first, "
                "e.g. defect-assets import synthetic"
            )
        return read_settings(self.dataset, DatasetDescription)

    def hold(self, description: DatasetDescription) -> None:
        """Make this the home of a dataset, or make sure that it is.

        Raises
        ------
        HomeError
            If the home holds another dataset.
        """
        if not self.dataset.exists():
            write_description(description, self.dataset)
            return
        held = self.description()
        if held.name != description.name:
            raise HomeError(
                f"{self.root} is the home of {held.name}, and a home holds one dataset; "
                f"give {description.name} its own: "
                f"defect-assets --home {self.root.parent / description.name} import …"
            )
        if held.labels != description.labels:
            raise HomeError(
                f"{self.dataset} describes other classes or masks than this import: "
                f"{held.class_map}, not {description.class_map}; edit it if the classes "
                "changed, or choose another home with --home"
            )

    def prepare(self) -> None:
        """Make the folders that Dagster and BentoML want to find, and Dagster's configuration.

        Raises
        ------
        NoCluster
            If the deployment is unknown, or is Ray, which is not installed.
        """
        for folder in (self.inbox, self.dagster, self.bentoml, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        database = _postgres()
        os.environ.update(database)  # this process may open the instance next
        names = ["", "ray/" if on_ray() else "local/", *(["postgres/"] if database else [])]
        text = "".join((CONFIGS / "deploy" / f"{name}dagster.yaml").read_text() for name in names)
        written = self.dagster / "dagster.yaml"
        if not written.exists() or written.read_text() != text:  # others may be reading it
            written.write_text(text)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep others from walking the road on this home meanwhile.

        Raises
        ------
        HomeError
            If another process is at it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".at-work").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise HomeError(
                    f"process {lock.read().strip() or '(unknown)'} is at work on {self.root} "
                    "already; wait until it is done, or stop it"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def environment(self) -> dict[str, str]:
        """Return the variables with which Dagster's and BentoML's own commands use this home."""
        return {
            "DEFECT_HOME": str(self.root),
            "DAGSTER_HOME": str(self.dagster),
            "BENTOML_HOME": str(self.bentoml),
            "BENTOML_DO_NOT_TRACK": "True",
            "DETECTOR_INFERENCE_LOG": os.environ.get(
                "DETECTOR_INFERENCE_LOG", str(self.root / "inference")
            ),
            **_postgres(),
            **({"DEFECT_STORE": self.store_url} if self.store_url else {}),
            **({"DEFECT_INBOX": self.inbox_url} if self.inbox_url else {}),
            **{name: os.environ[name] for name in (DEPLOY, ADDRESS) if os.environ.get(name)},
        }


def default_home() -> Home:
    """Return the home that ``DEFECT_HOME`` names, or ``home`` in the checkout.

    Its store is what ``DEFECT_STORE`` names, or in the home; ``DEFECT_INBOX`` names the bucket from
    which deliveries are fetched, if there is one.
    """
    root = Path(os.environ.get("DEFECT_HOME") or PROJECT / "home").resolve()
    environment = os.environ.get
    return Home(root, environment("DEFECT_STORE", ""), None, environment("DEFECT_INBOX", ""))


def _postgres() -> dict[str, str]:
    """Return the variable that names Dagster's database, if it is set, with the driver to use."""
    url = os.environ.get(POSTGRES, "")
    # SQLAlchemy's own choice would be another one than Dagster's.
    return {POSTGRES: re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)} if url else {}


def known_description(name: str) -> DatasetDescription:
    """Return one of the descriptions in ``configs/datasets``.

    Raises
    ------
    SettingsError
        If there is none of this name.
    """
    path = CONFIGS / "datasets" / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise SettingsError(f"{name} is not described in {path.parent}; known: {known}")
    return read_settings(path, DatasetDescription)
