"""One process among several that torchrun started, or the only one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass(frozen=True)
class Team:
    """rank: of this process, 0 writes files and speaks. world: how many there are."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """DistributedDataParallel over the gradients of `module`; itself when alone."""
        if self.world == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            module, device_ids=ids, broadcast_buffers=False, find_unused_parameters=True
        )

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()

    def summed(self, values: list[float]) -> list[float]:
        """The sums over all processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return [float(v) for v in tensor]

    def gathered(self, part: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        """Every process's list of tensors, in order of rank, on the CPU where there are several."""
        if self.world == 1:
            return [part]
        found: list[list[torch.Tensor]] = [[] for _ in range(self.world)]
        torch.distributed.all_gather_object(found, [tensor.cpu() for tensor in part])
        return found


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """The process group that torchrun's variables describe (gloo on CPU, NCCL on CUDA)."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield Team(device=device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(int(os.environ["RANK"]), world, device)
    finally:
        torch.distributed.destroy_process_group()
