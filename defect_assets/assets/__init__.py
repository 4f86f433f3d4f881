"""The assets, one file per stage: partitions in, a call into the floors below, metadata out."""
