"""Figures: confusion matrix, risk against coverage, timelines, and videos with predictions drawn in."""
