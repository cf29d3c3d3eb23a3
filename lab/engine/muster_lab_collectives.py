# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expert layers over data parallelism on CPUs: the two collectives vLLM's CPU backend lacks."""

# mypy: disable-error-code="import-not-found"
# torch and vllm exist in the engine image only.
from __future__ import annotations

import torch
import torch.distributed as dist
from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator


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


def register() -> None:
    CpuCommunicator.all_gatherv = all_gatherv
    CpuCommunicator.reduce_scatterv = reduce_scatterv
