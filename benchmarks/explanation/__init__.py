"""Are the explanations true? Descriptions and frames that an explanation names, checked on rendered faces."""
