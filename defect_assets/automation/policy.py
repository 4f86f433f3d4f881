"""The policy: what the platform does by itself, as ``configs/policy.yaml`` says."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from defect_assets.home import CONFIGS
from defect_assets.registry.channels import PRODUCTION, ChannelRefused, check_name
from defect_assets.settings import read_settings

FILE = "policy.yaml"

Rise = Literal["major", "minor", "patch"]
"""Which number of a dataset's version rose."""
TimeOfDay = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""Hours and minutes, UTC."""


def _no_production(channel: str) -> str:
    try:
        check_name(channel)
    except ChannelRefused as error:
        raise ValueError(str(error)) from error
    if channel == PRODUCTION:
        raise ValueError("what goes into production is decided by a person: defect-assets promote")
    return channel


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Deliveries(_Strict):
    """When a delivery is taken in."""

    quiet_minutes: Annotated[float, Field(gt=0)] | None = None
    """A delivery without ``_COMPLETE`` is whole when nothing came for so long; None: never."""
    at_once: Annotated[int, Field(ge=1)] = 20
    """Deliveries that are asked for at most at any time."""


class Cut(_Strict):
    """When a snapshot is cut: as soon as one of the two numbers is reached, and each night."""

    batches: Annotated[int, Field(ge=1)] = 5
    images: Annotated[int, Field(ge=1)] = 200
    nightly: TimeOfDay = "02:00"


class TrainedConfig(_Strict):
    """A configuration that is trained, and on what."""

    config: str
    """E.g. ``C-01``."""
    after: frozenset[Rise] = frozenset(("major", "minor", "patch"))
    """Snapshots in whose version one of these numbers rose. In the first one it is ``major``."""


class Train(_Strict):
    """What is trained on a new snapshot, in this order."""

    configs: tuple[TrainedConfig, ...] = ()
    a_day: Annotated[int, Field(ge=1)] = 4
    """Trainings that are begun in any 24 hours, at most."""


class Release(_Strict):
    """What becomes of a model that passes its gates."""

    channel: Annotated[str, AfterValidator(_no_production)] | None = None
    """Where a release is promoted to; None: nowhere."""


class Upkeep(_Strict):
    """How the store is looked after."""

    verify_days: Annotated[int, Field(ge=1)] = 14
    """In so many nights all of the store is read once."""
    verify: TimeOfDay = "03:00"


class Policy(_Strict):
    """What the platform does by itself, once its sensors and schedules are switched on."""

    deliveries: Deliveries = Deliveries()
    cut: Cut = Cut()
    train: Train = Train()
    release: Release | None = None
    """None: nothing is released by itself."""
    upkeep: Upkeep = Upkeep()
    attempts: Annotated[int, Field(ge=1)] = 3
    """Runs of one change at most, where it fails for a reason that may pass."""


def read_policy() -> Policy:
    """Return the policy as it is written now.

    Raises
    ------
    SettingsError
        If it cannot be used; the message names the key.
    """
    return read_settings(CONFIGS / FILE, Policy)


def cron(time: TimeOfDay) -> str:
    """Return a time of day as cron says it.

    >>> cron("02:05")
    '5 2 * * *'
    """
    hours, minutes = time.split(":")
    return f"{int(minutes)} {int(hours)} * * *"
