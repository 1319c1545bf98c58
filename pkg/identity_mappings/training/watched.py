"""Section 4.2's "monitoring the responses": the state of a run whose units are measured at moments of its schedule."""

import math

from ..analysis.measurements import columns, measure
from ..iteration.capture import uncompiled
from .state import State

MOMENTS = (0, 1 / 64, 1 / 16, 1 / 4, 1)  # of the schedule: units change most at its start
DIGITS = 3  # significant, of a kept number: what a picture shows, in a file of some kilobytes


def moments(iterations):
    """The iterations after which a run of that length is measured."""
    return sorted({int(iterations * moment) for moment in MOMENTS})


class WatchedState(State):
    """A `State` that measures the units at the `moments`, and ends with the numbers of one that does not.

    Measured are as many images as a mini-batch has, the first of the training images and always these, without
    augmentation and in training mode; nothing is, once the loss is not finite. The record gains `images`, their
    number, and `units`: for each moment its iteration and a list a measurement, unit by unit.
    """

    def __init__(self, *how):
        super().__init__(*how)
        self.moments, self.units = moments(self.protocol.iterations), []

    def step(self):
        if self.iteration == 0:
            self._measure()
        super().step()
        if self.iteration in self.moments:
            self._measure()

    def _measure(self):
        if not math.isfinite(self.on_device.loss_sum):
            return
        with uncompiled(self.device):
            found = columns(measure(self.network, *self.batches.images.plain(0, self.protocol.batch)))
        del found["unit"]  # their order says it
        self.units.append({"iteration": self.iteration, **{name: list(map(_kept, of)) for name, of in found.items()}})

    def results(self):
        return super().results() | {"images": self.protocol.batch, "units": self.units}

    def to_dict(self):
        return super().to_dict() | {"units": self.units}

    def load_dict(self, saved):
        super().load_dict(saved)
        self.units = saved["units"]


def _kept(value):
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
