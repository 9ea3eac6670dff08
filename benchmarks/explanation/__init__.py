"""Are the explanations true? The descriptions and frames of explanations, checked on rendered faces."""
