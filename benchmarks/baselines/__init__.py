"""Do simple methods reach the same? TG-DFER beside random scores, zero-shot CLIP, linear layers and LoRA."""
