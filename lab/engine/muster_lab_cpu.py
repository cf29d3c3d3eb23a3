# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM lacks where several engines share a few CPUs.

Expert layers over data parallelism need two collectives that its CPU backend does not have. Its
processes wait for each other by spinning, which takes the CPU from those they wait for. And each
process of an engine imports torch and vLLM anew, for the sake of a GPU that is not there.
"""

# mypy: disable-error-code="import-not-found"
# torch and vllm exist in the engine image only.
from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from vllm.distributed import utils
from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator
from vllm.model_executor.models import registry
from vllm.platforms.cpu import CpuPlatform

# Short beside a step of the model, long beside a look at the shared buffer.
WAIT_S = 0.0005


def _gather(self: CpuCommunicator, tensor: torch.Tensor, sizes: list[int] | None) -> torch.Tensor:
    """gloo gathers equal parts only: pad to the longest, gather, cut the padding."""
    counts = sizes or [tensor.shape[0]] * self.world_size
    longest = max(counts)
    part = tensor.new_zeros((longest, *tensor.shape[1:]))
    part[: tensor.shape[0]] = tensor
    whole = tensor.new_empty((longest * self.world_size, *tensor.shape[1:]))
    dist.all_gather_into_tensor(whole, part, group=self.device_group)
    parts = whole.split(longest)
    return torch.cat([piece[:count] for piece, count in zip(parts, counts, strict=True)])


def all_gatherv(
    self: CpuCommunicator,
    input_: torch.Tensor | list[torch.Tensor],
    dim: int = 0,
    sizes: list[int] | None = None,
) -> torch.Tensor | list[torch.Tensor]:
    if dim != 0:
        raise NotImplementedError("only dim 0 is gathered")
    if isinstance(input_, list):
        return [_gather(self, tensor, sizes) for tensor in input_]
    return _gather(self, input_, sizes)


def reduce_scatterv(
    self: CpuCommunicator, input_: torch.Tensor, dim: int = -1, sizes: list[int] | None = None
) -> torch.Tensor:
    if dim != 0:
        raise NotImplementedError("only dim 0 is scattered")
    counts = sizes or [input_.shape[0] // self.world_size] * self.world_size
    total = input_.clone()
    dist.all_reduce(total, group=self.device_group)
    return total.split(counts)[self.rank_in_group].clone()


def sched_yield() -> None:
    time.sleep(WAIT_S)


def forking(decide: Callable[..., None]) -> Callable[..., None]:
    """vLLM's choice of a configuration, its processes forked as they are on other platforms."""

    def decided(vllm_config: Any) -> None:
        decide(vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    return decided


def register() -> None:
    CpuCommunicator.all_gatherv = all_gatherv
    CpuCommunicator.reduce_scatterv = reduce_scatterv
    for module in (utils, shm_broadcast):
        module.sched_yield = sched_yield
    CpuPlatform.check_and_update_config = staticmethod(forking(CpuPlatform.check_and_update_config))
    # The model's class is looked at in a process of its own only to keep CUDA out of this one.
    registry._run_in_subprocess = lambda look: look()
