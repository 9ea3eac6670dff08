"""Runs the common test classes of transformers on the classes of this package."""
