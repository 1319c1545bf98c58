"""Training: one run's state and its step, the loop round it with checkpoints, and many runs at once."""

from .loop import train
from .many import train_all

__all__ = ["train", "train_all"]
