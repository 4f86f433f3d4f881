"""Opening the road for a command: Dagster's definitions and instance, and someone who tells."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from defect_assets.commands.errors import fail
from defect_assets.console import ConsoleNarrator, console

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from defect_assets.automation.road import Road
    from defect_assets.automation.scope import Scope
    from defect_assets.home import Home


@contextmanager
def open_road(allow_unpinned: bool = False, scope: Scope | None = None) -> Iterator[Road]:
    """Open the road on this home's Dagster instance; by default the whole."""
    from defect_assets.home import PROJECT, default_home

    home = default_home()
    os.environ.update(home.environment())
    # Sleeping, not spinning, threads: the difference is large where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with home.at_work():
        with console.status("starting"):
            sys.path.insert(0, str(PROJECT))
            from defect_assets.automation.materializing import Materializer
            from defect_assets.automation.road import Blocked
            from defect_assets.automation.road import Road as Walk
            from defect_assets.automation.scope import WHOLE
            from defect_assets.automation.telling import tell
            from definitions import defs

        narrator = ConsoleNarrator()
        with open_instance(home) as instance:
            with console.status("telling Dagster what the store holds"):
                tell(instance, home)
            try:
                yield Walk(
                    home, Materializer(defs, instance, narrator), allow_unpinned, scope or WHOLE
                )
                tell(instance, home)
            except Blocked as blocked:
                fail(str(blocked))
            finally:
                narrator.stop()


def rehearse(allow_unpinned: bool, scope: Scope) -> Road:
    """Return a road on which nothing is made, and nothing written; Dagster is not asked."""
    from defect_assets.automation.road import Rehearsal
    from defect_assets.automation.road import Road as Walk
    from defect_assets.home import default_home

    return Walk(default_home(), Rehearsal(), allow_unpinned, scope)


def open_instance(home: Home) -> DagsterInstance:
    """Open the home's Dagster instance; where there is none yet, make it."""
    import dagster as dg

    home.prepare()
    return dg.DagsterInstance.from_config(str(home.dagster))
