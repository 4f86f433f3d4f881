"""What one should be able to answer on any day: each answer with its proof, or what it lacks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from defect_assets.dataset.difference import changelog, compare_samples
from defect_assets.dataset.leaks import describe, leaks
from defect_assets.dataset.samples import latest_rows
from defect_assets.dataset.snapshot import find_snapshot, latest_version, read_snapshot
from defect_assets.dataset.split import read_split
from defect_assets.evaluation.wording import scored
from defect_assets.registry.channels import PRODUCTION, channels, leads_to, moves
from defect_assets.registry.channels import overridden as why_overridden
from defect_assets.registry.checkout import holds_commit
from defect_assets.registry.environment import Environment
from defect_assets.registry.pinning import why_unpinned
from defect_assets.registry.release.releases import REF as RELEASES
from defect_assets.registry.release.releases import Release, releases
from defect_assets.registry.subjects import Subject, UnknownSubject, find_subject
from defect_assets.store import Corrupted, NotInStore, Store, digest_of, short
from defect_assets.store.columns import column
from defect_assets.store.verify import look_below

WEEK = timedelta(days=7)
_REPAIR = "defect-assets verify --repair-from STORE restores it from a copy of the store"


class Answer(BaseModel):
    """The answer to one question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    answer: str
    proof: tuple[str, ...] = ()
    """What was looked at and found."""
    missing: tuple[str, ...] = ()
    """What is wrong or not there, and what to do; the answer is as it should be where it is empty.
    """

    @property
    def holds(self) -> bool:
        """Whether the answer is as it should be, and proven."""
        return not self.missing


@dataclass
class _Evidence:
    """What was found while looking for an answer."""

    proof: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def audit(
    store: Store,
    project: Path,
    now: datetime | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> list[Answer]:
    """Answer all questions. Changes nothing.

    Parameters
    ----------
    store
        Where everything lies.
    project
        The checkout, in whose repository commits are looked for.
    now
        From when on a week is counted back.
    say
        Is told what takes long.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    known = releases(store)
    best, when = _best(store, known, (now or datetime.now(UTC)) - WEEK)
    present = leads_to(store, PRODUCTION) if PRODUCTION in channels(store) else None
    say("looking for all that releases were made of")
    answers = [
        _rebuild(store, project, f"Can {when} be rebuilt?", best),
        _rebuild(store, project, "Can what is in production be rebuilt?", present),
        _made_by(store, present),
        _fixed_label(store),
    ]
    say("looking for what was both trained and tested on")
    looked_at = {release.id: release for release in (best, present) if release}
    answers += [_tested_apart(store, list(looked_at.values())), _pinned(store, known)]
    return [*answers, _overridden(store, known)]


def _best(store: Store, known: list[Release], since: datetime) -> tuple[Release | None, str]:
    """Return the release with the highest Dice of the last week, or else of all."""
    at = {release.id: store.record(RELEASES + release.id) for release in known}
    recent = [r for r in known if (record := at[r.id]) and record.created_at >= since]
    best = max(recent or known, key=lambda release: release.metrics.dice or 0, default=None)
    return best, "the best release of the last 7 days" if recent else "the best release"


def _rebuild(store: Store, project: Path, question: str, release: Release | None) -> Answer:
    if release is None:
        return _nothing(question)
    evidence = _Evidence()
    try:
        subject = find_subject(store, release.id)
        _look_at_code(project, subject, evidence)
        _look_at_inputs(store, subject, evidence)
        count, damages = look_below(store, [release.bundle, release.report, *_parents(subject)])
        evidence.missing += [f"{d.key}: {d.reason}; {_REPAIR}" for d in damages]
        if not damages:
            store.objects.get_tree(release.bundle)
            evidence.proof.append(
                f"all {count} objects and tables that it needs are there with their digests, and "
                "the packs of its images (verify reads those)"
            )
    except (UnknownSubject, Corrupted, NotInStore) as error:
        evidence.missing.append(f"{error}; {_REPAIR}")
    return Answer(
        question=question,
        answer=f"{release.id} (test Dice {scored(release.metrics.dice)}): "
        + (
            "no, something is missing"
            if evidence.missing
            else f"yes, with defect-assets reproduce {release.id}"
        ),
        proof=tuple(evidence.proof),
        missing=tuple(evidence.missing),
    )


def _look_at_code(project: Path, subject: Subject, evidence: _Evidence) -> None:
    commit = subject.model.commit
    if not commit or commit.endswith("+"):
        evidence.missing.append(
            f"its code is {'that of no commit' if not commit else 'not as in ' + commit[:12]}: "
            "train it anew from a commit"
        )
    elif not holds_commit(project, commit):
        evidence.missing.append(
            f"this repository does not have its commit {commit[:12]}: git fetch it from the clone "
            "in which it was made"
        )
    else:
        evidence.proof.append(f"commit {commit} is in git")


def _look_at_inputs(store: Store, subject: Subject, evidence: _Evidence) -> None:
    """Say what it was made of, as far as that is recorded and there."""
    parents = subject.model.parents
    for stage in ("dataset_split", "training_config", "python_environment"):
        if stage not in parents:
            evidence.missing.append(f"its record names no {stage}: train it anew")
            continue
        digest = parents[stage]
        if stage == "dataset_split":
            split = read_split(store, digest)
            snapshot = read_snapshot(store, split.snapshot)
            evidence.proof.append(
                f"snapshot {snapshot.id} {short(split.snapshot)}, {snapshot.samples} images; "
                f"split {short(digest)}, seed {split.policy.seed}"
            )
        elif stage == "training_config":
            seed = store.objects.get_json(digest).get("seed", "none")
            evidence.proof.append(f"configuration {subject.config} {short(digest)}, seed {seed}")
        else:
            environment = Environment.model_validate(store.objects.get_json(digest))
            store.objects.get(environment.lock)
            evidence.proof.append(
                f"environment {short(digest)}: Python {environment.python}, "
                f"{len(environment.packages)} packages; its lock {short(environment.lock)}"
            )


def _parents(subject: Subject) -> list[str]:
    return list(subject.model.parents.values())


def _made_by(store: Store, release: Release | None) -> Answer:
    question = "Which snapshot and configuration made what is in production?"
    if release is None:
        return _nothing(question)
    try:
        subject = find_subject(store, PRODUCTION)
        parents = subject.model.parents
        split = read_split(store, parents["dataset_split"])
    except (UnknownSubject, Corrupted, NotInStore, KeyError) as error:
        return Answer(question=question, answer="not known", missing=(f"{error}",))
    move = moves(store, PRODUCTION)[0]
    missing = []
    if (split.dataset, subject.config) != (release.dataset, release.config):
        missing.append(
            f"{release.id} says {release.dataset} × {release.config}, and its model's record "
            f"{split.dataset} × {subject.config}"
        )
    return Answer(
        question=question,
        answer=f"{split.dataset} and {subject.config}, as {release.id}",
        proof=(
            f"{PRODUCTION} leads to {release.id} since {move.at:%Y-%m-%d %H:%M} UTC, by {move.by}: "
            f"{move.why}",
            f"its model {short(release.bundle)} is of split {short(parents['dataset_split'])} of "
            f"snapshot {split.dataset} {short(split.snapshot)} and of configuration "
            f"{subject.config} {short(parents.get('training_config', 'not recorded'))}",
        ),
        missing=tuple(missing),
    )


def _fixed_label(store: Store) -> Answer:
    question = "Would a fixed label make a new version?"
    newest = latest_version(store)
    if newest is None:
        return Answer(
            question=question,
            answer="there is no version yet",
            missing=("a snapshot: defect-assets repro makes the first one",),
        )
    _, snapshot = find_snapshot(store, str(newest))
    names = ("sample", "class", "group", "image", "mask")
    samples = latest_rows(store, snapshot.batches, names)
    labelled = samples.filter(pc.not_equal(samples["mask"], "")).sort_by("sample").slice(0, 1)
    if not len(labelled):
        return Answer(question=question, answer=f"{newest} has no label to fix")
    # As if someone had drawn its mask anew.
    other = column([digest_of(b"another mask")], pa.string())
    fixed = labelled.set_column(names.index("mask"), "mask", other)
    log = changelog(compare_samples(labelled, fixed), snapshot.description, snapshot.description)
    sample = labelled["sample"][0].as_py()
    if log.bump is None:
        missing = (f"the mask of {sample} was changed in memory, and the rule saw nothing",)
        return Answer(question=question, answer="no", missing=missing)
    return Answer(
        question=question,
        answer=f"yes, {newest.bumped(log.bump)} after {newest}",
        proof=(f"tried in memory, with another mask for {sample}: {log}",),
    )


def _tested_apart(store: Store, looked_at: list[Release]) -> Answer:
    question = "Was anything tested on that was trained on?"
    if not looked_at:
        return _nothing(question)
    evidence = _Evidence()
    for release in looked_at:
        try:
            subject = find_subject(store, release.id)
            trained, tested = (
                record.parents.get("dataset_split")
                for record in (subject.model, subject.evaluation)
            )
            if trained is None or trained != tested:
                evidence.missing.append(
                    f"{release.id} was trained on split {short(trained or 'none')} and tested on "
                    f"{short(tested or 'none')}: evaluate it anew"
                )
                continue
            split = read_split(store, trained)
            found = leaks(store, split)
        except (UnknownSubject, Corrupted, NotInStore) as error:
            evidence.missing.append(f"{release.id}: {error}")
            continue
        wrong, mend = describe(found)
        if wrong:
            evidence.missing.append(f"{release.id}, {split.dataset}: {wrong}; {mend}")
        else:
            compared = (
                f"{found.compared} images were compared for near-duplicates"
                if found.compared
                else "its description says not to look for near-duplicates"
            )
            evidence.proof.append(
                f"{release.id}: no part and no image of {split.dataset} is in two places of its "
                f"split; {compared}"
            )
    return Answer(
        question=question,
        answer="perhaps" if evidence.missing else "no",
        proof=tuple(evidence.proof),
        missing=tuple(evidence.missing),
    )


def _pinned(store: Store, known: list[Release]) -> Answer:
    question = "Is anything released that is not pinned?"
    evidence = _Evidence()
    for release in known:
        try:
            model = find_subject(store, release.id).model
        except (UnknownSubject, Corrupted, NotInStore) as error:
            evidence.missing.append(f"{release.id}: {error}")
            continue
        reasons = why_unpinned(model)
        if not model.commit or model.commit.endswith("+"):
            reasons.append("its code was not committed")
        if reasons:
            evidence.missing.append(f"{release.id}: {'; '.join(reasons)}; train and release anew")
        else:
            evidence.proof.append(f"{release.id}: by commit {model.commit[:12]}")
    return Answer(
        question=question,
        answer="yes" if evidence.missing else f"no, {len(known)} releases are pinned",
        proof=tuple(evidence.proof),
        missing=tuple(evidence.missing),
    )


def _overridden(store: Store, known: list[Release]) -> Answer:
    found = list(_overrides(store, known))
    return Answer(
        question="Which releases were let through though they failed a gate?",
        answer=f"{len(found)} of {len(known)}" if found else f"none of {len(known)}",
        proof=tuple(found),
    )


def _overrides(store: Store, known: list[Release]) -> Iterator[str]:
    for release in known:
        if why := why_overridden(store, release.id):
            yield f"{release.id}: {why}"


def _nothing(question: str) -> Answer:
    return Answer(
        question=question,
        answer="nothing is there to ask about",
        missing=(
            "a release that is promoted: defect-assets repro, then defect-assets promote v… "
            f"{PRODUCTION} --why …",
        ),
    )
