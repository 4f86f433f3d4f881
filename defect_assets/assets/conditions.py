"""When assets materialize by themselves, where that can be said as a condition.

It is evaluated by the sensor `follow_the_data` (`defect_assets.automation.conditions`). Asked for
is a partition that has come to be missing, or whose parent has another content, by its digest: a
parent that was computed again to the same content asks for nothing. Once asked for, a change is
done with, whether the run succeeds or not. The environment does not count: what was computed in
another one is out of date, which `defect-assets repro` mends, but nobody recomputes the past by
himself.
"""

import dagster as dg
from dagster import AutomationCondition as Condition


def follows(*parents: str) -> dg.AutomationCondition:
    """Return the condition of an asset that is made again when one of some parents changes."""
    changed = Condition.any_deps_match(Condition.data_version_changed()).allow(
        dg.AssetSelection.assets(*parents)
    )
    return (
        (Condition.newly_missing() | changed).since_last_handled()
        & ~Condition.any_deps_missing()
        & ~Condition.any_deps_in_progress()
        & ~Condition.in_progress()
        & Condition.all_deps_blocking_checks_passed()
    ).with_label(f"follows {' and '.join(parents)}")
