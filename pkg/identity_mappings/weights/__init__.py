"""Weights in files: this library's own, other repositories' and Torch7's, and a network's error on test images."""

from .files import load, save

__all__ = ["load", "save"]
