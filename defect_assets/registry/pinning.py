"""The mark of a result that was trained unpinned: of what nobody can look up again."""

from defect_assets.store import Record

UNPINNED = "unpinned"
"""Where in a record's details the reasons stand."""


def why_unpinned(record: Record | None) -> list[str]:
    """Return the reasons for which a result is unpinned; none: it is pinned, or not there."""
    return list(record.details.get(UNPINNED, ())) if record else []


def mark(reasons: list[str]) -> dict[str, list[str]]:
    """Return what a record's details hold of some reasons; nothing where there are none."""
    return {UNPINNED: reasons} if reasons else {}
