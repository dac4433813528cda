"""A run on disk and in time."""
