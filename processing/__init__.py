"""Preprocessing of videos and texts, and post-processing of outputs. Each saved model gets a copy of every file."""
