"""Beyond one machine: the same work on a Ray cluster. Ray is imported where it is used."""
