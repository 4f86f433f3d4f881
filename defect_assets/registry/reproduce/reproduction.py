"""What came of making a release again: what was compared, and the verdict."""

from pydantic import BaseModel, ConfigDict

TOLERANCE = 0.02
"""By how much a score may differ where the machine or the environment does."""


class Compared(BaseModel):
    """One thing, as it was recorded and as it was found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    recorded: str
    found: str

    @property
    def equal(self) -> bool:
        """Whether the two are the same."""
        return self.recorded == self.found


class Reproduction(BaseModel):
    """What came of training a release again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    compared: tuple[Compared, ...]
    """What was compared, in the order of the road."""
    same_machine: bool
    """Whether machine and environment are such that the bundle must be the same."""
    same_bundle: bool
    scores: dict[str, tuple[float | None, float | None]]
    """Of the released and of the new model on the test split, by name; nothing where the bundle
    is the same."""
    tolerance: float

    @property
    def apart(self) -> dict[str, tuple[float | None, float | None]]:
        """The scores that differ by more than the tolerance, or that only one of the two has."""
        return {
            name: (one, other)
            for name, (one, other) in self.scores.items()
            if one != other and (one is None or other is None or abs(one - other) > self.tolerance)
        }

    @property
    def reproduced(self) -> bool:
        """Whether the release was made again."""
        return self.same_bundle or (not self.same_machine and bool(self.scores) and not self.apart)

    @property
    def verdict(self) -> str:
        """What came of it, in a sentence."""
        if self.same_bundle:
            return f"{self.release} is reproduced: the bundle is the same, to the last bit"
        differ = ", ".join(pair.what for pair in self.compared if not pair.equal)
        if self.same_machine:
            return (
                f"{self.release} is not reproduced: on this machine and in this environment the "
                f"bundle must be the same; not equal: {differ}"
            )
        if self.apart:
            return f"{self.release} is not reproduced: apart by more than {self.tolerance:g}: " + (
                ", ".join(self.apart)
            )
        return (
            f"{self.release} is reproduced within {self.tolerance:g}: the weights differ, as they "
            f"do on another machine or in another environment; not equal: {differ}"
        )
