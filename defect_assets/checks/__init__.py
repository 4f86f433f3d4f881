"""Checks of assets, shown in the UI: each looks at the partition just made, and names it.

They are steps of the run that makes a partition, so that a blocking one stops what comes after it
in that run; Dagster keeps one latest status for all partitions, and the partition stands in its
metadata. (Checks with partitions of their own are a preview in Dagster 1.13.)
"""
