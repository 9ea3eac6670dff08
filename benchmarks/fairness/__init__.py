"""Fairness: the same expressions on rendered faces that differ in only one attribute."""
