"""Recognition of emotions that the model knows only from descriptions. Each emotion is excluded once from training."""
