"""Releases: gates, numbers, notes, model cards."""
