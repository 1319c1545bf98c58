"""What training on ImageNet does otherwise than on CIFAR: pictures from files, and a batch in parts and shares.

The mini-batch of 256 is taken by 1, 2, 4 or 8 processes, each part by part if its memory does not hold its share at
once. BN normalises the same 32 images together in each case, and the gradient is that of the whole batch: the way in
which it is taken changes the last bits and nothing else.
"""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch.nn.parallel import DistributedDataParallel

from ..data import jpeg
from ..data.pictures import Share
from ..errors import UsageError
from ..iteration import memory
from ..iteration.capture import COMPILED, UNRECORDED, Way, compile_regions, uncompiled
from ..iteration.check import Snapshot
from ..iteration.step import Step
from ..weights import evaluation
from . import distributed
from .state import State


class SharedStep(Step):
    """The `Step` of one of several processes, or of one that takes a batch part by part: `images.share` says which.

    The first process keeps the running statistics of the batch's first group, as the others' steps keep their own:
    `settle` gives them the first's.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.parts = len(self.batches.share.parts(self.batches.protocol.batch))
        self.replica = self.network
        if distributed.size() > 1:
            # weights are the same in all from the seed on; the buffers are BN's, of which each process has its own
            buffers = [name for name, _ in self.network.named_buffers()]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.network, buffers)
            self.replica = DistributedDataParallel(self.network, init_sync=False, gradient_as_bucket_view=True)

    def __call__(self):
        loss_sum, wrong_sum = torch.zeros_like(self.loss_sum), torch.zeros_like(self.wrong_sum)
        for part, (images, labels) in enumerate(self.batches.parts()):
            with self._until_last(part):
                loss, wrong = self._backward(images.contiguous(memory_format=self.memory_format), labels)
            if part == 0:
                self.statistics.update()  # by the batch's first group, before the next part leaves its own
            loss_sum += loss
            wrong_sum += wrong
        self._update()
        self.loss_sum += distributed.total(loss_sum) / distributed.size()
        self.wrong_sum += distributed.total(wrong_sum)
        self.counter += 1

    def _backward(self, images, labels):
        """Adds the part's share of the gradient to each parameter's `grad`; returns its loss share and errors."""
        with self.autocast():
            logits = self.replica(images)
        loss, wrong = self.loss(logits, labels)
        loss = loss / self.parts
        loss.backward()
        return loss.detach(), wrong

    def _until_last(self, part):
        """A context in which processes add up gradients on their own: they share them in the last part."""
        alone = self.replica is not self.network and part < self.parts - 1
        return self.replica.no_sync() if alone else nullcontext()

    def _update(self):
        self.sgd.step([parameter.grad for parameter in self.sgd.parameters], self.rates.index_select(0, self.counter))
        for parameter in self.sgd.parameters:
            parameter.grad = None

    def rehearse(self):
        """A pass there and back, and an update, of which nothing stays: in the first ones libraries choose, compilers
        compile, and DistributedDataParallel learns in which order gradients come, by which it sums them from then on.
        A training that goes on from a checkpoint has rehearsed as one that began, and so sums alike.
        """
        before = Snapshot(self)
        size, count = self.batches.images.size, self.batches.share.part
        images = torch.zeros(count, 3, *size, device=self.device).contiguous(memory_format=self.memory_format)
        self._backward(images, torch.zeros(count, dtype=torch.int64, device=self.device))
        self._update()
        before.restore()

    def settle(self):
        """Give all processes the first's running statistics."""
        distributed.from_first(self.statistics.running)


class ImageNetState(State):
    """The `State` of a run on pictures in files. Its record gains

    crops: for each of the protocol's tests {"side", "crop", "top1", "top5"}, pixels and percent. test_error and the
    curve's are the first one's top-1 error. processes, images_at_once: how the batch was taken. decoder: of JPEGs in
    training, each that it had.
    damaged: pictures that could not be read and were left out, by path and reason.
    """

    def _begun(self, train, device, precision, recompute):
        if precision == "fp16":
            raise UsageError("a batch in parts has no scaled loss, so not fp16: train ImageNet in fp32 or bf16")
        share, recompute = share_of(self.recipe, train.size, precision, device, recompute)
        self.damaged, self.decoders = set(), [jpeg.name(train.on_device)]
        how = (self.protocol, self.seed, device, precision, recompute)
        return SharedStep(self.recipe.network, train.shared(share), *how)

    def _sample(self, trained):
        return None  # pictures lie class by class: the first of them are no sample

    def speed_up(self, say, begin=COMPILED):
        """Compile the step's regions on CUDA; no recording, for a step of so much work has no launches to save.

        begin: as in `State.speed_up`; they are compiled where it is COMPILED or UNRECORDED.
        """
        self.say = say
        if self.finished:
            return
        if self.device.type == "cpu":
            if distributed.size() > 1:
                self.on_device.rehearse()
            return
        if begin not in (COMPILED, UNRECORDED):
            self.on_device.rehearse()
            return
        compile_regions(self.on_device)
        try:
            self.on_device.rehearse()
            self.way = Way(self.on_device, UNRECORDED)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of the compiler
            say(f"the step could not be compiled ({str(error).strip().splitlines()[0]}): training it as it is")
            compile_regions(self.on_device, False)
            self.on_device.rehearse()

    def step(self):
        super().step()
        self._note(self.batches.damaged)

    def _note(self, damaged):
        for message in sorted(damaged - self.damaged):
            self.say(f"left out: {message}")
        self.damaged |= damaged

    def enter(self):
        self._note(distributed.union(self.damaged))
        return super().enter()

    def test_error(self, *_):
        """Percent of all test images whose first answer is wrong, in the first of the protocol's tests."""
        return self._score(*self.protocol.tests[0][1:]).top1

    @torch.no_grad()
    def _score(self, side, crop):
        self.on_device.settle()
        batch = self.batches.share.part
        mine = self.test.test(side, crop, batch, distributed.rank(), distributed.size())
        self.network.eval()
        with uncompiled(self.device):
            score = evaluation.counted(self.network, mine, self.device, self.precision, distributed.total)
        self.network.train()
        return score

    def results(self):
        crops = {}
        if self.curve["test_error"][-1] is not None:
            for name, side, crop in self.protocol.tests:
                score = self._score(side, crop)
                crops[name] = {"side": side, "crop": crop, "top1": score.top1, "top5": score.top5}
        return super().results() | {
            "crops": crops,
            "pictures": {"train": len(self.batches.images), "test": len(self.test)},
            "processes": distributed.size(),
            "images_at_once": self.batches.share.part,
            "decoder": ", then ".join(self.decoders),
            "damaged": sorted(self.damaged),
        }

    def to_dict(self):
        how = {"part": self.batches.share.part, "recompute": self.network.recompute, "decoders": self.decoders}
        return super().to_dict() | {"damaged": sorted(self.damaged), "how": how}

    def load_dict(self, saved):
        """Go on from what `to_dict` gave, with parts of the size that the run began with where the share allows it."""
        part, mine = saved["how"]["part"], self.protocol.batch // distributed.size()
        if part != self.batches.share.part and mine % part == 0 and not self.network.recompute:
            self.batches.share = replace(self.batches.share, part=part)
            self.on_device.parts = mine // part
            self.network.recompute = saved["how"]["recompute"]
        super().load_dict(saved)
        self.damaged = set(saved["damaged"])
        self.decoders = list(dict.fromkeys(saved["how"]["decoders"] + self.decoders))


def share_of(recipe, size, precision, device, recompute=False):
    """(this process's `Share` of a batch, whether to recompute): as many images at a time as memory should hold.

    recompute: whether memory has run out before; then the smallest parts are taken, and activations recomputed.
    Raises UsageError where the processes cannot share the batch in whole groups of BN.
    """
    batch, processes = recipe.protocol.batch, distributed.size()
    group = recipe.protocol.bn_group or batch
    if batch % (group * processes):
        fitting = [str(count) for count in range(1, batch // group + 1) if batch // group % count == 0]
        raise UsageError(
            f"processes share a batch of {batch} images in whole BN groups of {group}: there must be "
            f"{', '.join(fitting)} of them; got {processes}"
        )
    mine = batch // processes
    available = memory.main() / distributed.beside() if device == "cpu" else memory.free(device)

    def fits(part, recompute=False):
        smaller = replace(recipe, protocol=replace(recipe.protocol, batch=part))
        return memory.need(smaller, size, precision, recompute) <= available

    parts = [part for part in range(mine, 0, -group) if mine % part == 0]
    part = None if recompute else next(filter(fits, parts), None)
    recompute = part is None
    return Share(part or parts[-1], distributed.rank(), processes), recompute
