"""The sensor that evaluates the assets' automation conditions.

What it asked for and what died is begun again by Dagster itself, as often as its instance says
(``run_retries`` in ``configs/deploy/dagster.yaml``): a condition cannot count.
"""

import dagster as dg

follow_the_data = dg.AutomationConditionSensorDefinition(
    "follow_the_data",
    target=dg.AssetSelection.assets("dataset_split", "evaluation_report", "defect_bento"),
    minimum_interval_seconds=15,
    description="Splits what was cut, evaluates what was trained, packs what was released.",
)
