"""How much of the road is walked, and what of it is made anew in any case."""

from collections.abc import Iterable
from dataclasses import dataclass

from defect_assets.errors import UserError
from defect_assets.registry.stages import STAGES, after, before

ON_REQUEST = frozenset({"cross_validation", "leak_audit", "production_predictions"})
"""What takes several trainings, or a look at all images, and is made only where it is asked for by
name."""


class UnknownAsset(UserError):
    """There is no asset of this name; the message lists those that there are."""


@dataclass(frozen=True)
class Scope:
    """Stages that are brought up to date, and those that are made anew though they are."""

    covered: frozenset[str]
    forced: frozenset[str] = frozenset()

    def covers(self, stage: str) -> bool:
        """Tell whether a stage is brought up to date."""
        return stage in self.covered

    def forces(self, stage: str) -> bool:
        """Tell whether a stage is made anew in any case."""
        return stage in self.forced


WHOLE = Scope(frozenset(STAGES) - ON_REQUEST)


def scope_of(
    assets: Iterable[str] = (), *, upstream: bool = False, downstream: bool = False, force: bool
) -> Scope:
    """Return the scope of some assets, or of the whole road where none is named.

    As ``dvc repro`` does, what an asset depends on is brought up to date first.

    Parameters
    ----------
    assets
        Their names.
    upstream, downstream
        Whether what they depend on, and what depends on them, counts as named, too.
    force
        Whether what is named is made anew though it is up to date.

    Raises
    ------
    UnknownAsset
        If there is no asset of a name.
    """
    named = set(assets)
    if unknown := sorted(named - STAGES.keys()):
        raise UnknownAsset(f"there is no asset {unknown[0]}; there are: {', '.join(STAGES)}")
    if not named:
        return Scope(WHOLE.covered, WHOLE.covered if force else frozenset())
    asked = set(named)
    if downstream:
        named |= after(asked) - ON_REQUEST
    if upstream:
        named |= before(asked)
    return Scope(frozenset(named | before(named)), frozenset(named) if force else frozenset())
