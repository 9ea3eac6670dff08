"""Can a model be given a new emotion by words alone? Each emotion is left out of training once."""
