"""What made a model worse: one factor swapped at a time."""
