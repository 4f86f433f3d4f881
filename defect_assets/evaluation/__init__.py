"""What a model finds and misses on images it has never seen."""
