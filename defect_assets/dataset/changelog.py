"""What changed between two snapshots, in numbers, and which version that asks for."""

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.dataset.version import Bump


class Changelog(BaseModel):
    """What changed between two snapshots: samples per class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    added: dict[str, int] = Field(default_factory=dict)
    relabelled: dict[str, int] = Field(default_factory=dict)
    removed: dict[str, int] = Field(default_factory=dict)
    classes_changed: bool = False
    """Whether the class map or the reading of masks changed."""
    split_changed: bool = False
    """Whether the split policy changed, and with it the membership of the test split."""

    @property
    def bump(self) -> Bump | None:
        """The number that rises; None where nothing changed."""
        if self.classes_changed or self.split_changed or self.removed:
            return Bump.MAJOR
        if self.added:
            return Bump.MINOR
        return Bump.PATCH if self.relabelled else None

    def __str__(self) -> str:
        parts = [
            f"{_samples(sum(counts.values()))} {verb} ({_listed(counts)})"
            for verb, counts in [
                ("added", self.added),
                ("relabelled", self.relabelled),
                ("removed", self.removed),
            ]
            if counts
        ]
        if self.classes_changed:
            parts.append("class map or mask format changed")
        if self.split_changed:
            parts.append("split policy changed")
        return "; ".join(parts) or "nothing changed"


def _samples(count: int) -> str:
    return f"{count} sample" if count == 1 else f"{count} samples"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
