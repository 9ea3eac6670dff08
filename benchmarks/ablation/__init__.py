"""Does each part help? TG-DFER with and without its parts, beside other heads on the same features."""
