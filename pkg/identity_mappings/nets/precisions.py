"""The precisions in which a network runs, by name."""

import torch

# name -> the type that torch's autocast computes in; None: float32 throughout. "skip-fp32": the signal along the
# shortcuts stays in float32 from the stem to the classifier. fp16 trains with a scaled loss (`iteration.scale`).
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "bf16-skip-fp32": torch.bfloat16, "fp16": torch.float16}


def autocast(precision, device):
    """The context in which a network runs at that precision on a device, "cpu" or "cuda"."""
    dtype = PRECISIONS[precision]
    return torch.autocast(torch.device(device).type, dtype or torch.bfloat16, enabled=dtype is not None)
