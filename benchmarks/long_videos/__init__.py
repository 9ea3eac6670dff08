"""Segments of emotion in long rendered videos, and the time and memory that long files take."""
