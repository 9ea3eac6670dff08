"""Recipe of `tgdfer-tiny`, the TG-DFER model in the package."""
