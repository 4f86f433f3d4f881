"""The rules by which a dataset's description tells physical parts apart."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SIMILARITY = 0.85
"""Images at least so similar are near-duplicates, as measured in `benchmarks/versioning.md`."""


class CaptureSequence(BaseModel):
    """Parts were photographed one after the other, and names count the captures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    """Finds the number of the capture in a sample's name: ``num_(?P<capture>\\d+)``."""
    gap: int = Field(default=300, ge=1)
    """Captures further apart than this are of different parts."""

    @field_validator("pattern")
    @classmethod
    def _finds_a_capture(cls, pattern: str) -> str:
        return _checked(pattern, "capture")


class NearDuplicates(BaseModel):
    """Images that look alike are of one part, whatever else is said of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    similarity: float = Field(default=SIMILARITY, ge=0.5, le=1)
    """See `defect_assets.dataset.near_duplicates`."""


class GroupRules(BaseModel):
    """Which samples are of one physical part.

    A rule on the names counts where a delivery says no group of a new sample; a later change of it
    regroups nothing. Near-duplicates are joined when a snapshot is split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str | None = None
    """Finds the part in a sample's name: ``^(?P<group>part-\\d+)-``."""
    capture_sequence: CaptureSequence | None = None
    near_duplicates: NearDuplicates | Literal[False] | None = None
    """``off`` (in YAML, a False) where different parts look alike; else a split that has
    near-duplicates in several parts fails its check."""

    @field_validator("pattern")
    @classmethod
    def _finds_a_group(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else _checked(pattern, "group")

    @model_validator(mode="after")
    def _one_rule_on_names(self) -> "GroupRules":
        if self.pattern is not None and self.capture_sequence is not None:
            raise ValueError("pattern and capture_sequence are two rules on names: take one")
        return self

    @property
    def joined_above(self) -> float | None:
        """The similarity above which images are of one part; None where none are joined."""
        return self.near_duplicates.similarity if self.near_duplicates else None

    @property
    def reads_names(self) -> bool:
        """Whether there is a rule on names."""
        return self.pattern is not None or self.capture_sequence is not None


def groups_by_name(
    rules: GroupRules, samples: Iterable[str], known: Mapping[str, str]
) -> dict[str, str]:
    """Return the group of new samples by their names.

    Parameters
    ----------
    rules
        With a rule on names.
    samples
        Ids of new samples.
    known
        The groups of those that are there already. A capture sequence goes on where it ended: new
        captures near known ones are of their part.

    Returns
    -------
    dict
        The group of each sample; one whose name does not fit the rule is not in it.
    """
    if rules.pattern is not None:
        found = {sample: re.search(rules.pattern, sample) for sample in samples}
        return {sample: m["group"] for sample, m in found.items() if m and m["group"]}
    assert rules.capture_sequence is not None
    return _groups_by_capture(rules.capture_sequence, samples, known)


def capture_runs(captures: Sequence[int], gap: int) -> list[int]:
    """Return the number of the run, from 0 on, that each capture of a sorted sequence is in.

    >>> capture_runs([4, 20, 310, 700, 701], gap=300)
    [0, 0, 0, 1, 1]
    """
    runs = [0] if captures else []
    for one, other in pairwise(captures):
        runs.append(runs[-1] + (other - one > gap))
    return runs


def _groups_by_capture(
    rule: CaptureSequence, samples: Iterable[str], known: Mapping[str, str]
) -> dict[str, str]:
    order = sorted(
        (int(match["capture"]), sample)
        for sample in {*samples, *known}
        if (match := re.search(rule.pattern, sample)) and (match["capture"] or "").isdecimal()
    )
    runs = capture_runs([capture for capture, _ in order], rule.gap)
    runs_of: dict[int, list[tuple[int, str]]] = {}
    for number, member in zip(runs, order, strict=True):
        runs_of.setdefault(number, []).append(member)
    groups = {}
    for run in runs_of.values():
        there = [member for member in run if member[1] in known]
        for capture, sample in run:
            if sample in known:
                continue
            place = bisect_left(there, (capture, sample))
            beside = [(abs(n - capture), old) for n, old in there[max(place - 1, 0) : place + 1]]
            groups[sample] = known[min(beside)[1]] if beside else f"part-{run[0][0]}"
    return groups


def _checked(pattern: str, name: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    if set(groups) != {name}:
        raise ValueError(f"{pattern!r} must have one named group, (?P<{name}>…)")
    return pattern
