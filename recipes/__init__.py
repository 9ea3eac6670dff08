"""Recipes that train the weights in the package, one folder per model. They are not part of the wheel."""
