"""Annotations as other tools write them: into deliveries, and out of datasets."""
