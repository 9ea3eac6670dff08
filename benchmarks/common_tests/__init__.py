"""The common test classes of transformers, run on our classes."""
