"""The scale of the loss in fp16, whose small gradients would else be zero: torch.amp.GradScaler's, on the device."""

import torch

FIRST = 2.0**16  # the scale at the start
GROWTH, EVERY = 2.0, 2000  # times that after so many iterations without overflow


class LossScale:
    """A factor of the loss that its gradients are divided by. It halves where one of them overflows, and else grows.

    scale: (1,) float32; fine: (1,) int64, the iterations since it changed. Both lie on the device, in place.
    """

    def __init__(self, device):
        self.scale = torch.full((1,), FIRST, device=device)
        self.fine = torch.zeros(1, dtype=torch.int64, device=device)

    def unscaled(self, gradient):
        """Divide a flat float32 gradient by the scale, in place; returns whether all of it is finite, a (1,) bool."""
        finite = gradient.div_(self.scale).isfinite().all()[None]
        grown = torch.where(self.fine + 1 >= EVERY, GROWTH, 1.0)
        self.scale.mul_(torch.where(finite, grown, 1 / GROWTH))
        self.fine.add_(1).mul_(finite & (grown == 1.0))
        return finite

    def tensors(self):
        return {"scale": self.scale, "fine": self.fine}
