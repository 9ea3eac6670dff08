"""Checking a data set before training: `tgdfer data check`."""
