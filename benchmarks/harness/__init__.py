"""Simple methods and TG-DFER on the same clips, frames and CLIP: what every claim of this project is compared with.

A *ground* is a data set with train and test people and the truth about every frame. A *row* is a method; it is run in
*parts* (a seed or a fold each), and every part that is done is kept. Row and ground are found again by what decides
their figures, so a part is run again when, and only when, one of these has changed.
"""
