"""From videos and texts to tensors, and from outputs to answers. Every file is copied into each saved model."""
