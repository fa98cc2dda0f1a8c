"""The networks behind the metrics, in plain PyTorch, with the key names of their published checkpoints."""
