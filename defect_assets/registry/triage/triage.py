"""Triage: what made one model worse than another, told by swapping one factor at a time.

Each factor that differs is as in the good model or as in the bad one. A model is trained of the
combinations in between, and all are held against the same test. A factor's share is what the score
changes when it is swapped, averaged over the orders in which all are swapped one after the other.
Of up to three factors that is every order, and the share is the value of Shapley (1953): the shares
sum to the change, whatever the factors do together. Of four, whose sixteen combinations nobody
would wait for, it is one order and its reverse (antithetic sampling of permutations; Mitchell,
Cooper, Frank and Holmes 2022, JMLR 23:43), whose shares sum to the change, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from defect_assets.errors import UserError
from defect_assets.evaluation.bootstrap import percentiles
from defect_assets.evaluation.comparison import (
    MIN_PARTS,
    differing_parts,
    excludes_zero,
    measure_together,
    number,
)
from defect_assets.inference.bundle import SPEC, BundleSpec
from defect_assets.registry.code import commit
from defect_assets.registry.comparison.comparing import classes_in, read_report
from defect_assets.registry.comparison.differences import Change, Differences, Factor, differences
from defect_assets.registry.subjects import Subject
from defect_assets.registry.triage.recipes import TRIAGES, Recipe, made_by, recipe_of
from defect_assets.registry.triage.suspects import Suspect, suspects
from defect_assets.registry.triage.workshop import CannotFollow, Trained
from defect_assets.registry.triage.yardstick import (
    COUNTING,
    Labels,
    Yardstick,
    by_labels,
    count,
    get_tables,
    put_tables,
    yardstick,
)
from defect_assets.store import Digest, Record, Store, canonical_json, digest_of
from defect_assets.store.reservations import reserve

if TYPE_CHECKING:
    from defect_assets.inference.postprocessing import Analysis

SCORE = "dice"
"""The score by which the cause is named."""
_EXACT = 3
"""Factors up to which every order is looked at."""


class TriageImpossible(UserError):
    """Two models whose difference cannot be taken apart; the message says why."""


class Workshop(Protocol):
    """Whoever follows recipes; see `defect_assets.registry.triage.workshop.Workshop`."""

    def train(self, recipe: Recipe, say: Callable[[str], None]) -> Trained:
        """Train a model, or raise `CannotFollow`."""

    def look(
        self, recipe: Recipe, bundle: Digest, images: Sequence[Digest], say: Callable[[str], None]
    ) -> Iterator[Analysis]:
        """Yield what a model finds in some images, or raise `CannotFollow`."""


class Share(BaseModel):
    """What of a change one factor carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float | None
    """Averaged over the orders of swapping; None, as the others, where nothing is measured."""
    interval: tuple[float, float] | None
    """95 %, resampled by part. That another seed would have trained another model is no part of
    it."""
    alone: float | None
    """What changes if this factor alone is swapped into the good one."""
    undone: float | None
    """What changes by this factor last, all others being as in the bad one: mended there, it would
    give so much back. None where the combination was not trained."""

    @property
    def is_evident(self) -> bool:
        """Whether the interval excludes zero."""
        return excludes_zero(self.interval)


class Attribution(BaseModel):
    """A score of both models on the same test, and who carries the change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good: float | None
    bad: float | None
    interval: tuple[float, float] | None
    """95 % interval of the change."""
    parts: int
    """Parts with something to measure on which the two do not do the same."""
    shares: dict[Factor, Share]

    @property
    def change(self) -> float | None:
        """Bad less good."""
        return None if self.good is None or self.bad is None else self.bad - self.good

    @property
    def is_evident(self) -> bool:
        """Whether the interval of the change excludes zero, and enough parts tell of it."""
        return self.parts >= MIN_PARTS and excludes_zero(self.interval)


class Combination(BaseModel):
    """A model of some factors of the bad one, and the others of the good one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bad: tuple[Factor, ...]
    """The factors that are as in the bad one."""
    key: str
    """Of its recipe."""
    model: Digest | None
    """None where it could not be trained."""
    trained: bool
    """Whether this triage trained it; if not, it was there."""
    seconds: float = 0
    why_not: str = ""


class Triage(BaseModel):
    """What made one model worse than another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good: str
    bad: str
    experiments: tuple[str, str]
    """Of both, e.g. ``DS-1.1.0 × C-01``."""
    differences: Differences
    reported: Change
    """The scores of both, each on its own test."""
    images: int
    """That all are tested on."""
    parts: int
    left_out: int
    """Test images of either that do not count."""
    combinations: tuple[Combination, ...]
    orders: tuple[int, int]
    """How many orders of swapping the shares are averaged over, of how many there are."""
    attributions: dict[Labels, dict[str, Attribution]]
    """By the labels that are counted by, and the score. More than one set where labels differ."""
    cause: Factor | None
    """What carries most of the change."""
    reason: str
    """Why this is said to be the cause, or why none is."""
    suspects: tuple[Suspect, ...]
    """Where data differ: the batches by which they do."""


def triage(
    store: Store,
    good: Subject,
    bad: Subject,
    project: Path,
    workshop: Workshop,
    say: Callable[[str], None] = lambda _: None,
) -> Triage:
    """Find out what made one model worse than another.

    What it trains is published, one by one: who interrupts it and calls it again goes on.

    Parameters
    ----------
    store
        Where the models lie.
    good, bad
        The two; any two will do, whichever is better.
    project
        The checkout.
    workshop
        Who trains.
    say
        Is told of progress.

    Raises
    ------
    TriageImpossible
        If nothing differs, nothing can be compared, or too little can be trained here.
    Reserved
        If someone else is training one of the models.
    """
    told = differences(store, good, bad, project)
    recipes = [recipe_of(store, subject.model) for subject in (good, bad)]
    if recipes[0] is None or recipes[1] is None:
        raise TriageImpossible(
            "the record of one of the two does not say what it was made of, as of models from "
            "before that was recorded: run again, and it does"
        )
    if not told.factors:
        machine = ", ".join(f"{k}: {v}" for k, v in told.environment.hardware.items())
        raise TriageImpossible(
            f"{good.name} and {bad.name} are of the same data, configuration, code and environment"
            + (f"; what differs is the machine ({machine})" if machine else "")
        )
    test = yardstick(store, recipes[0].split, recipes[1].split)
    if not test.images:
        raise TriageImpossible(
            f"{good.name} and {bad.name} were tested on no image in common, of which neither saw "
            "the part in training: there is nothing to hold them both against"
        )
    bench = _Bench(store, workshop, recipes[0], recipes[1], test, say)
    bench.have((), good.model.content)
    bench.have(told.factors, bad.model.content)
    every = orders(told.factors)
    bench.make([swapped for order in every for swapped in _steps(order)[1:-1]])
    usable = [order for order in every if all(map(bench.has, _steps(order)))]
    if not usable:
        raise TriageImpossible(
            "too little can be trained here to tell the factors apart:\n" + bench.failures
        )
    attributions = {
        labels: _attribute(tables, told.factors, usable)
        for labels, tables in bench.tables(usable).items()
    }
    reported = Change(
        before=read_report(store, good.evaluation.content).test.dice,
        after=read_report(store, bad.evaluation.content).test.dice,
    )
    cause, reason = _cause(attributions[Labels.GOOD][SCORE], reported, told)
    return Triage(
        good=good.name,
        bad=bad.name,
        experiments=(good.experiment, bad.experiment),
        differences=told,
        reported=reported,
        images=len(test.images),
        parts=len(set(test.rows[0]["group"].to_pylist())),
        left_out=test.left_out,
        combinations=tuple(bench.combinations.values()),
        orders=(len(usable), len(every)),
        attributions=attributions,
        cause=cause,
        reason=reason,
        suspects=suspects(store, told.data),
    )


def orders(factors: Sequence[Factor]) -> list[tuple[Factor, ...]]:
    """Return the orders in which factors are swapped: every one, or of many one and its reverse."""
    if len(factors) <= _EXACT:
        return list(permutations(factors))
    return [tuple(factors), tuple(reversed(factors))]


def shares(
    value: dict[frozenset[Factor], float] | dict[frozenset[Factor], np.ndarray],
    order_list: Sequence[tuple[Factor, ...]],
) -> dict[Factor, float]:
    """Return what each factor adds, averaged over orders of swapping; they sum to the change.

    Parameters
    ----------
    value
        The score of each combination, by the factors that are swapped; or that of many resamples
        at once.
    order_list
        The orders.
    """
    total: dict = dict.fromkeys(order_list[0], 0.0)
    for order in order_list:
        steps = _steps(order)
        for factor, before, after in zip(order, steps, steps[1:], strict=False):
            total[factor] = total[factor] + (value[after] - value[before])
    return {factor: sum_of / len(order_list) for factor, sum_of in total.items()}


def _steps(order: tuple[Factor, ...]) -> list[frozenset[Factor]]:
    """Return what is swapped after each step, nothing first and all last."""
    return [frozenset(order[:i]) for i in range(len(order) + 1)]


class _Bench:
    """The combinations of two recipes, made and tested as they are needed."""

    def __init__(
        self,
        store: Store,
        workshop: Workshop,
        good: Recipe,
        bad: Recipe,
        test: Yardstick,
        say: Callable[[str], None],
    ) -> None:
        self._store, self._workshop = store, workshop
        self._good, self._bad = good, bad
        self._test, self._say = test, say
        self.combinations: dict[frozenset[Factor], Combination] = {}

    def have(self, swapped: Sequence[Factor], model: Digest) -> None:
        """Take note of a model that is there."""
        self._note(frozenset(swapped), model, trained=False)

    def has(self, swapped: frozenset[Factor]) -> bool:
        """Tell whether there is a model of a combination."""
        return self.combinations[swapped].model is not None

    @property
    def failures(self) -> str:
        """What could not be trained, and why, line by line."""
        return "\n".join(
            f"- {' and '.join(c.bad)} as in the bad one: {c.why_not}"
            for c in self.combinations.values()
            if c.why_not
        )

    def make(self, needed: Sequence[frozenset[Factor]]) -> None:
        """Train what is needed and not there yet, that of few factors first."""
        known = made_by(self._store)
        waiting = sorted(dict.fromkeys(needed), key=len)
        todo = [s for s in waiting if self._recipe(s).key not in known]
        for swapped in waiting:
            if swapped not in todo:
                self._note(swapped, known[self._recipe(swapped).key].content, trained=False)
        for number_of, swapped in enumerate(todo, start=1):
            self._say(f"training {number_of} of {len(todo)}: {_named(swapped)}")
            self._train(swapped, f"{number_of} of {len(todo)}")

    def tables(
        self, used: Sequence[tuple[Factor, ...]]
    ) -> dict[Labels, dict[frozenset[Factor], pd.DataFrame]]:
        """Return the counts of each model that some orders of swapping need, by the labels."""
        found: dict[Labels, dict[frozenset[Factor], pd.DataFrame]] = {}
        for swapped in dict.fromkeys(step for order in used for step in _steps(order)):
            for labels, table in by_labels(self._test, self._counts(swapped)).items():
                found.setdefault(labels, {})[swapped] = table
        return found

    def _recipe(self, swapped: frozenset[Factor]) -> Recipe:
        return self._good.with_factors(swapped, self._bad)

    def _note(
        self,
        swapped: frozenset[Factor],
        model: Digest | None,
        trained: bool,
        seconds: float = 0,
        why_not: str = "",
    ) -> None:
        self.combinations[swapped] = Combination(
            bad=tuple(factor for factor in Factor if factor in swapped),
            key=self._recipe(swapped).key,
            model=model,
            trained=trained,
            seconds=round(seconds, 1),
            why_not=why_not,
        )

    def _train(self, swapped: frozenset[Factor], which: str) -> None:
        recipe = self._recipe(swapped)
        start = time.monotonic()
        try:
            with reserve(self._store.backend, recipe.name, "triage") as reservation:
                trained = self._workshop.train(recipe, lambda text: self._say(f"{which}: {text}"))
                bundle = self._store.objects.put_tree(trained.files)
                reservation.confirm()
                self._publish(recipe, bundle, trained)
        except CannotFollow as error:
            self._say(f"{which}: it cannot be trained: {error}")
            self._note(swapped, None, trained=False, why_not=str(error))
            return
        seconds = time.monotonic() - start
        self._say(f"{which}: trained in {seconds:.0f} s")
        self._note(swapped, bundle, trained=True, seconds=seconds)

    def _publish(self, recipe: Recipe, bundle: Digest, trained: Trained) -> None:
        self._store.publish(
            recipe.name,
            Record(
                asset="triage",
                partition=recipe.key,
                content=bundle,
                parents={
                    "dataset_split": recipe.split,
                    "training_config": recipe.config,
                    "python_environment": recipe.environment,
                },
                code_version=recipe.code_version,
                commit=recipe.commit,
                details=trained.record,
            ),
        )

    def _counts(self, swapped: frozenset[Factor]) -> tuple[pd.DataFrame, ...]:
        """Return what a model finds in the test, counted once for all."""
        recipe, model = self._recipe(swapped), self.combinations[swapped].model
        assert model is not None
        deciding = [model, recipe.code_version, recipe.packages, self._test.digest, COUNTING]
        name = f"{TRIAGES}counts/{digest_of(canonical_json(deciding))[:32]}"
        if counted := self._store.content(name):
            return get_tables(self._store, counted)
        self._say(f"testing: {_named(swapped)}")
        spec = BundleSpec.model_validate_json(
            self._store.objects.get(self._store.objects.get_json(model)[SPEC])
        )
        try:
            analyses = self._workshop.look(recipe, model, self._test.images, self._say)
            tables = count(self._store, self._test, analyses, spec.class_map)
        except CannotFollow as error:
            raise TriageImpossible(f"{_named(swapped)} cannot be tested: {error}") from error
        self._store.publish(
            name,
            Record(
                asset="triage",
                content=put_tables(self._store, tables),
                parents={"trained_model": model},
                code_version=COUNTING,
                commit=commit(),
            ),
        )
        return tables


def _named(swapped: frozenset[Factor]) -> str:
    factors = [factor for factor in Factor if factor in swapped]
    return f"{' and '.join(factors)} as in the bad one" if factors else "all as in the good one"


def _attribute(
    tables: dict[frozenset[Factor], pd.DataFrame],
    factors: tuple[Factor, ...],
    order_list: Sequence[tuple[Factor, ...]],
) -> dict[str, Attribution]:
    """Return who carries the change of each score."""
    first = next(iter(tables.values()))
    classes = [
        name
        for name in classes_in(first)
        if all(f"tp_{name}" in t.columns for t in tables.values())
    ]
    measured = dict(zip(tables, measure_together(list(tables.values()), classes), strict=True))
    ends = tables[frozenset()], tables[frozenset(factors)]
    return {
        score: _attribute_score(
            differing_parts(score, *ends, classes),
            {swapped: m.scores[score] for swapped, m in measured.items()},
            {swapped: m.resampled[score] for swapped, m in measured.items()},
            order_list,
        )
        for score in measured[frozenset()].scores
    }


def _attribute_score(
    parts: int,
    value: dict[frozenset[Factor], float],
    drawn: dict[frozenset[Factor], np.ndarray],
    order_list: Sequence[tuple[Factor, ...]],
) -> Attribution:
    factors = order_list[0]
    nothing, everything = frozenset[Factor](), frozenset(factors)
    share, shares_drawn = shares(value, order_list), shares(drawn, order_list)

    def change(before: frozenset[Factor], after: frozenset[Factor]) -> float | None:
        known = before in value and after in value
        return number(value[after] - value[before]) if known else None

    return Attribution(
        good=number(value[nothing]),
        bad=number(value[everything]),
        interval=percentiles(drawn[everything] - drawn[nothing]),
        parts=parts,
        shares={
            factor: Share(
                share=number(share[factor]),
                interval=percentiles(np.asarray(shares_drawn[factor])),
                alone=change(nothing, frozenset({factor})),
                undone=change(everything - {factor}, everything),
            )
            for factor in sorted(factors, key=list(Factor).index)
        },
    )


def _cause(found: Attribution, reported: Change, told: Differences) -> tuple[Factor | None, str]:
    """Return which factor carries most of the change, and why this is said."""
    change = found.change
    if len(told.factors) == 1:
        return told.factors[0], f"nothing differs but the {told.factors[0]}"
    if change is None:
        return None, "the test that they have in common has no defect to find"
    if found.is_evident:
        carried = {f: (s.share or 0) / change + 0.0 for f, s in found.shares.items()}
        ranked = sorted(carried, key=lambda factor: -carried[factor])
        listed = ", ".join(f"{factor} {carried[factor]:.0%}" for factor in ranked)
        sure = [f for f in ranked if carried[f] > 0 and found.shares[f].is_evident]
        if not sure:
            return None, f"no factor by itself evidently carries the change ({listed})"
        return sure[0], f"it carries most of the change on the same test ({listed})"
    fell = (reported.before or 0) - (reported.after or 0)
    if told.data.splits.differs and fell > abs(change):
        return Factor.DATA, (
            "on the same test the two are equally good: what was reported is that the test itself "
            "is another one, its images or their labels"
        )
    return None, "on the same test there is no evidence that one is worse than the other"
