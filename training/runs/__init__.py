"""The folder of a training run: its checks, its files, and the checkpoints to resume from."""
