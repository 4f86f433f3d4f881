"""The sensor that evaluates the assets' automation conditions."""

import dagster as dg

follow_the_data = dg.AutomationConditionSensorDefinition(
    "follow_the_data",
    target=dg.AssetSelection.assets("dataset_split", "evaluation_report", "defect_bento"),
    minimum_interval_seconds=15,
    # A run that dies is begun again; one that fails by a step's own word is not (dagster.yaml).
    run_tags={"dagster/max_retries": "2", "dagster/retry_on_asset_or_op_failure": "false"},
    description="Splits what was cut, evaluates what was trained, packs what was released.",
)
