"""``python -m defect_assets`` is the command line."""

from defect_assets.cli import app

app()
