"""How `tgdfer-tiny` is trained, the TG-DFER model that the package carries."""
