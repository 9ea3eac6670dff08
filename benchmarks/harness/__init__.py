"""What all benchmarks share: the data, the rows that are measured on it, and the comparison of their results.

A *data set* has train and test people and the truth about every frame. A *row* is a method on a data set. A row runs
in *parts*, each a seed or a fold, and every finished part is kept on disk. A part is run again only if something that
decides its figures has changed: clips, weights, options or code.
"""
