"""Clearance: a training begins if preflight lets it, and it alone makes its model meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from defect_assets.assets.publishing import refuse
from defect_assets.home import PROJECT, Home
from defect_assets.partitions import experiment_of
from defect_assets.registry.pinning import mark
from defect_assets.registry.plan import Plan
from defect_assets.registry.preflight import Finding, preflight, refusal
from defect_assets.store.reservations import Reservation, ReservationLost, Reserved, reserve

GPU = "gpu"
"""Dagster's pool of those who train; configs/deploy/ says how many at a time."""


@dataclass(frozen=True)
class Clearance:
    """What preflight found, and the reservation of the model's name."""

    findings: list[Finding]
    reservation: Reservation

    @property
    def details(self) -> dict[str, Any]:
        """What the model's record says of it: nothing, or why the model is unpinned."""
        return mark(_reasons(self.findings))

    @property
    def metadata(self) -> dict[str, Any]:
        """What Dagster shows of it."""
        lines = "\n".join(f"- {finding}" for finding in self.findings)
        return {"preflight": dg.MetadataValue.md(lines)}

    def confirm(self) -> None:
        """Make sure, before the model gets its name, that nobody took the training over."""
        self.reservation.confirm()


@contextmanager
def cleared(
    context: dg.AssetExecutionContext, home: Home, accelerator: str, allow_unpinned: bool
) -> Iterator[Clearance]:
    """Let the training of an experiment begin, and keep others from it until it ends.

    Parameters
    ----------
    context
        Of the experiment that is being materialized.
    home
        Where it is.
    accelerator
        What is asked for, see `Plan`.
    allow_unpinned
        Whether what can be waived is.

    Raises
    ------
    dagster.Failure
        If preflight refuses, someone else is at it, or took it over; with all that is to be mended.
    """
    plan = Plan(PROJECT, home.store(), home.root, *experiment_of(context), accelerator)
    findings = preflight(plan)
    why = refusal(findings, allow_unpinned)
    if why:
        raise refuse(why)
    reasons = _reasons(findings)
    context.log.info(
        f"preflight: unpinned, {'; '.join(reasons)}" if reasons else "preflight: all is pinned"
    )
    try:
        with reserve(plan.store.backend, plan.experiment, context.run.run_id) as reservation:
            if reservation.instead_of:
                context.log.info(f"taken over from {reservation.instead_of}, which died")
            yield Clearance(findings, reservation)
    except (Reserved, ReservationLost) as error:
        raise refuse(error) from error


def _reasons(findings: list[Finding]) -> list[str]:
    """Return why the model will be unpinned: what was found wrong, and waived."""
    return [finding.wrong for finding in findings if not finding.passed]
