"""Code shared by all benchmarks: data sets, rows, the runner, and the comparison of results.

A *data set* has training clips and test clips of different people, and the ground truth of every frame. A *row* is one
method measured on a data set; it becomes a row of the results table. A row is run in *parts*, for example one per seed
or fold. Each finished part is stored on disk. It is run again only if the clips, the weights, the options or the code
that determine its figures have changed.
"""
