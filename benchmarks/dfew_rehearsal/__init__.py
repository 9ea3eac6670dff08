"""A rehearsal of the DFEW protocol with a generated tree of the published size."""
