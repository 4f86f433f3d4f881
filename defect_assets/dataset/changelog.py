"""What changed between two snapshots, in numbers, and which version that asks for."""

from pydantic import BaseModel, ConfigDict, Field

from defect_assets.dataset.version import Bump


class Changelog(BaseModel):
    """What changed between two snapshots: samples per class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    added: dict[str, int] = Field(default_factory=dict)
    relabelled: dict[str, int] = Field(default_factory=dict)
    removed: dict[str, int] = Field(default_factory=dict)
    regrouped: dict[str, int] = Field(default_factory=dict)
    """Samples that are of another part now, their label changed or not."""
    classes_changed: bool = False
    """Whether the class map or the reading of masks changed."""
    split_changed: bool = False
    """Whether the split policy changed, and with it the membership of the test split."""
    grouping_changed: bool = False
    """Whether near-duplicates are joined, or watched, otherwise."""

    @property
    def bump(self) -> Bump | None:
        """The number that rises; None where nothing changed."""
        # What is of another part may be in another part of the split: scores are of another test.
        divided_anew = self.split_changed or self.grouping_changed or self.regrouped
        if self.classes_changed or divided_anew or self.removed:
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
                ("regrouped", self.regrouped),
            ]
            if counts
        ]
        if self.classes_changed:
            parts.append("class map or mask format changed")
        if self.split_changed:
            parts.append("split policy changed")
        if self.grouping_changed:
            parts.append("grouping of near-duplicates changed")
        return "; ".join(parts) or "nothing changed"


def _samples(count: int) -> str:
    return f"{count} sample" if count == 1 else f"{count} samples"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
