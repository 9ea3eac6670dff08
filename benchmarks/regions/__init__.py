"""Pointing accuracy: whether region relevance points to where a face has moved."""
