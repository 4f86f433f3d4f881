"""BentoML's home, in a process that has worked on several homes."""

import shutil
from pathlib import Path

from bentoml._internal.configuration.containers import BentoMLContainer

from defect_assets.home import Home


def lead_to_bentoml(home: Home) -> None:
    """Let a home's folder of bentos be the one that this process uses.

    BentoML asks once a process where its home is, and another test may have come first.
    """
    bound = Path(BentoMLContainer.bentoml_home.get())
    if bound == home.bentoml:
        return
    bound.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(home.bentoml, ignore_errors=True)
    home.bentoml.parent.mkdir(parents=True, exist_ok=True)
    home.bentoml.symlink_to(bound)
