"""The parts of an evaluation: which clips are measured, from which views, what is written, and what is compared."""
