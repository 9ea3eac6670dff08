"""How the embedded weights are made: one folder for each model. Not part of the wheel."""
