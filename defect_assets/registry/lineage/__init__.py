"""Where anything comes from, and what came of it."""
