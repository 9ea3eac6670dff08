"""Comparison of TG-DFER with simple methods: random scores, zero-shot CLIP, linear layers and LoRA."""
