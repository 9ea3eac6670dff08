"""Is the package fair? The same expressions on rendered faces that differ in one respect only."""
