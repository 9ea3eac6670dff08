"""What the options of training bring on real faces: photographs first, LoRA, EMA, mixup and balancing."""
