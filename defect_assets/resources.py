"""What the assets work with."""

from pathlib import Path

import dagster as dg

from defect_assets.home import Home, default_home


class HomeResource(dg.ConfigurableResource):
    """The home: inbox, store, BentoML's stores. See `defect_assets.home`."""

    root: str = ""
    """Its folder; by default the one that DEFECT_HOME names, or ``home`` in the checkout."""

    def open(self) -> Home:
        """Return the home."""
        return Home(Path(self.root).resolve()) if self.root else default_home()
