"""Ablation: TG-DFER with and without each of its parts, compared with other heads on the same features."""
