"""Published data sets: DFEW, FERV39k, MAFW, AFEW, CREMA-D and RAVDESS, with their folds and their protocols.

The layouts and the traps are those of the published archives and of the lists that are passed on with public code.
None of these data sets may be redistributed, so nothing of them is part of this package.
"""

from tgdfer.training.data.published.facts import PUBLISHED
from tgdfer.training.data.published.folds import read_listing
from tgdfer.training.data.published.listing import ListedClip, Listing, PublishedDataset
from tgdfer.training.data.published.tables import published_tables

__all__ = ["PUBLISHED", "ListedClip", "Listing", "PublishedDataset", "published_tables", "read_listing"]
