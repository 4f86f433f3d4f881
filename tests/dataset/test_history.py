"""Any history of a dataset, beside a model of it that is a dictionary."""

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from defect_assets import inbox
from defect_assets.dataset.checkout import checkout
from defect_assets.dataset.cut import CutRefused, next_snapshot
from defect_assets.dataset.description import DatasetDescription, DefectClass, write_description
from defect_assets.dataset.difference import changelog, difference
from defect_assets.dataset.samples import samples_of
from defect_assets.dataset.snapshot import find_snapshot, versions
from defect_assets.dataset.version import Bump, Version
from defect_assets.store import Store, digest_of, packs
from defect_assets.store.collect import collect, find_garbage
from defect_assets.store.verify import verify
from tests.small import CLASSES, cut, deliver, home_of, ingest, mask, picture

SAMPLES = 8


@dataclass(frozen=True)
class Row:
    """What the model knows of a sample."""

    class_id: int
    mask: bytes
    """Empty where there is none."""
    group: str
    removed: bool = False

    @property
    def label(self) -> tuple[int, bytes]:
        return self.class_id, self.mask


@dataclass(frozen=True)
class Said:
    """What a delivery says of a sample."""

    image: bool
    label: tuple[int, int] | None
    """Class and number of a mask."""
    group: str
    remove: bool


Rows = dict[int, Row]
Counts = dict[str, int]

said = st.builds(
    Said,
    image=st.booleans(),
    label=st.none() | st.tuples(st.integers(0, 2), st.integers(0, 3)),
    group=st.sampled_from(["", "", "p1", "p2"]),
    remove=st.sampled_from([False, False, True]),
)
wishes = st.sampled_from([None, None, *Bump])
LOOKS = ("check out", "check out", "compare", "compare", "collect", "open again", "verify")
deliveries = st.dictionaries(st.integers(0, SAMPLES - 1), said, min_size=1, max_size=4)


def name(sample: int) -> str:
    return f"s{sample}"


def alive(rows: Rows) -> Rows:
    return {sample: row for sample, row in rows.items() if not row.removed}


def counts(rows: Rows, samples: set[int]) -> Counts:
    return dict(Counter(CLASSES[rows[sample].class_id] for sample in samples))


def compared(before: Rows, after: Rows) -> dict[str, Counts]:
    """Return what the changelog should say."""
    kept = before.keys() & after.keys()
    return {
        "added": counts(after, after.keys() - before.keys()),
        "relabelled": counts(after, {s for s in kept if before[s].label != after[s].label}),
        "removed": counts(before, before.keys() - after.keys()),
        "regrouped": counts(after, {s for s in kept if before[s].group != after[s].group}),
    }


def rows_in(store: Store, dataset: str) -> dict[str, tuple[str, str, str, str]]:
    _, snapshot = find_snapshot(store, dataset)
    return {
        row["sample"]: (row["class"], row["group"], row["image"], row["mask"])
        for row in samples_of(store, snapshot.batches).to_pylist()
    }


def as_stored(rows: Rows) -> dict[str, tuple[str, str, str, str]]:
    return {
        name(sample): (
            CLASSES[row.class_id],
            row.group,
            digest_of(picture(sample)),
            digest_of(row.mask) if row.mask else "",
        )
        for sample, row in rows.items()
    }


class History(RuleBasedStateMachine):
    """Deliveries, versions, checkouts and collections in any order."""

    @initialize(first=deliveries)
    def begin(self, first: dict[int, Said]) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(packs, "PACK_BYTES", 400)
        self.patch.setattr(os, "fsync", lambda descriptor: None)
        self.patch.setattr(inbox, "FINE", 0.0)
        self.root = Path(tempfile.mkdtemp(prefix="history-"))
        self.home = home_of(self.root / "home")
        self.store = self.home.store()
        self.delivered = 0
        self.rows: Rows = {}
        self.cuts: dict[str, Rows] = {}
        self.descriptions: dict[str, DatasetDescription] = {}
        self.pending = False
        self.deliver(first)

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        for dataset in self.cuts:
            self.is_what_it_was(dataset)
        self.sound_and_stored_once()
        shutil.rmtree(self.root)
        self.patch.undo()

    # Few rules, for hypothesis leaves some of them out in most runs.

    @rule(delivery=deliveries)
    def deliver_more(self, delivery: dict[int, Said]) -> None:
        self.deliver(delivery)

    @rule(delivery=deliveries, wish=wishes)
    def deliver_and_cut(self, delivery: dict[int, Said], wish: Bump | None) -> None:
        self.deliver(delivery)
        self.cut(wish)

    @rule(wish=wishes, describe=st.sampled_from([False, False, True]))
    def cut_what_there_is(self, wish: Bump | None, describe: bool) -> None:
        if describe:
            self.describe_another_class()
        self.cut(wish)

    @precondition(lambda self: self.cuts)
    @rule(what=st.sampled_from(LOOKS), one=st.integers(0, 100), other=st.integers(0, 100))
    def look(self, what: str, one: int, other: int) -> None:
        ids = sorted(self.cuts)
        one, other = one % len(ids), other % len(ids)
        if what == "check out":
            self.check_out(ids[one])
        elif what == "compare":
            self.compare(ids[one], ids[other])
        elif what == "collect":
            self.collect()
        elif what == "open again":
            self.store = self.home.store()
        else:
            self.sound_and_stored_once()

    def deliver(self, delivery: dict[int, Said]) -> None:
        images, masks, groups, remove = {}, {}, {}, []
        for sample, what in delivery.items():
            row = self.rows.get(sample)
            there = row is not None and not row.removed
            if what.remove:
                if there:
                    remove.append(name(sample))
                    self.rows[sample] = replace(self.rows[sample], removed=True)
                continue
            if what.image or not there:
                images[name(sample)] = picture(sample)
            elif not what.label:
                continue
            if what.label:
                class_id, number = what.label
                masks[name(sample)] = mask(class_id, number)
                label = class_id, masks[name(sample)]
            else:  # what is not said stays as it was, also of what was removed
                label = (row.class_id, row.mask) if row else (0, b"")
            if what.group:
                groups[name(sample)] = what.group
            group = what.group or (row.group if row else name(sample))
            self.rows[sample] = Row(*label, group)
        if images or masks or remove:
            self.delivered += 1
            deliver(self.home, f"d{self.delivered}", images, masks, groups, remove)
            ingest(self.home, self.store, f"d{self.delivered}")
            self.pending = True

    def describe_another_class(self) -> None:
        description = self.home.description()
        more = len(description.classes) + 1
        new = DefectClass(id=more, name=f"Class {more}", color="#000000")
        other = description.model_copy(update={"classes": (*description.classes, new)})
        write_description(other, self.home.dataset)

    def cut(self, wish: Bump | None) -> None:
        newest = max(map(Version.parse, self.cuts), default=None)
        before = self.cuts[str(newest)] if newest else {}
        after = alive(self.rows)
        log = compared(before, after)
        description = self.home.description()
        classes = bool(newest) and self.descriptions[str(newest)].labels != description.labels
        least = next(
            (
                bump
                for bump, why in [
                    (Bump.MAJOR, classes or log["removed"] or log["regrouped"]),
                    (Bump.MINOR, log["added"]),
                    (Bump.PATCH, log["relabelled"]),
                ]
                if why
            ),
            None,
        )
        if newest is None:
            if not self.pending:
                assert cut(self.home, self.store) is None
                return
            expected, allowed = Version("DS-", 1, 0, 0), wish is None
        elif least is None:
            assert cut(self.home, self.store) is None
            return
        else:
            expected = newest.bumped(least if wish is None else wish)
            allowed = wish is None or wish >= least
        if not allowed:
            asked = newest.bumped(wish or Bump.PATCH) if newest else Version("DS-", 1, 1, 0)
            with pytest.raises(CutRefused, match="cannot be cut"):
                next_snapshot(self.store, description, asked)
            return
        snapshot = cut(self.home, self.store, expected if wish is not None else None)
        assert snapshot is not None
        self.cuts[snapshot.id], self.descriptions[snapshot.id] = after, description
        self.pending = False
        assert snapshot.id == str(expected)
        assert snapshot.parent_id == (str(newest) if newest else None)
        assert snapshot.changelog.model_dump() == {
            **log,
            "classes_changed": classes,
            "split_changed": False,
            "grouping_changed": False,
        }
        assert snapshot.samples == len(after)
        assert snapshot.groups == len({row.group for row in after.values()})
        assert snapshot.counts == counts(after, set(after))
        self.is_what_it_was(snapshot.id)

    def is_what_it_was(self, dataset: str) -> None:
        assert rows_in(self.store, dataset) == as_stored(self.cuts[dataset])

    def check_out(self, dataset: str) -> None:
        folder = self.root / "work"
        checkout(self.store, dataset, folder)
        rows = self.cuts[dataset]
        wanted = {f"images/{name(sample)}.png": picture(sample) for sample in rows}
        wanted |= {f"masks/{name(s)}.png": row.mask for s, row in rows.items() if row.mask}
        assert wanted == {
            f"{kind}/{path.name}": path.read_bytes()
            for kind in ("images", "masks")
            for path in (folder / kind).iterdir()
        }

    def compare(self, before: str, after: str) -> None:
        pins = [find_snapshot(self.store, dataset)[1].batches for dataset in (before, after)]
        changes = difference(self.store, *pins)
        old, new = self.cuts[before], self.cuts[after]
        summary = changelog(changes, self.descriptions[before], self.descriptions[after])
        assert {k: v for k, v in summary.model_dump().items() if isinstance(v, dict)} == compared(
            old, new
        )
        theirs, ours = as_stored(old), as_stored(new)
        for row in changes.to_pylist():
            sample = row["sample"]
            if row["change"] != "added":
                was = row["class_before"], row["group_before"], row["mask_before"]
                assert was == (*theirs[sample][:2], theirs[sample][3])
            if row["change"] != "removed":
                assert (row["class"], row["group"], row["image"], row["mask"]) == ours[sample]
        touched = {row["sample"] for row in changes.to_pylist()}
        assert touched == {s for s in theirs.keys() | ours.keys() if theirs.get(s) != ours.get(s)}

    def collect(self) -> None:
        collect(self.store, 0)
        assert find_garbage(self.store, 0).entries == ()

    def sound_and_stored_once(self) -> None:
        assert verify(self.store).damages == ()
        packs = self.store.objects.packs.by_pack()
        members = [digest for held in packs.values() for digest, _ in held]
        assert len(members) == len(set(members))
        ordered = versions(self.store)
        assert [str(version) for version in ordered] == sorted(self.cuts, key=Version.parse)
        assert all(one < other for one, other in pairwise(ordered))


quick = settings(
    deadline=None,
    max_examples=12,
    stateful_step_count=15,
    suppress_health_check=list(HealthCheck),
)


def test_any_short_history_is_what_the_model_says() -> None:
    run_state_machine_as_test(History, settings=quick)  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_any_long_history_is_what_the_model_says() -> None:
    long = settings(quick, max_examples=60, stateful_step_count=40)
    run_state_machine_as_test(History, settings=long)  # type: ignore[no-untyped-call]
