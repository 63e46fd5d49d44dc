"""FSDP: each process keeps a part of every tensor of a training, and gathers what it computes with.

Weights, gradients, the optimizer's moments and the average of weights are shared out along their
first dimension (torch's `fully_shard`: arXiv 2304.11277, the second version); the layers are
gathered one after the other, in the forward pass and again in the backward pass. Checkpoints hold
whole tensors, so that any number of processes continues them, sharded or not.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from skipdit_cli.sites import site_modules

if TYPE_CHECKING:
    from skipdit_cli.models import Network


def shard(network: "Network", device: torch.device, count: int) -> None:
    """Leave each process its part of a network, which is whole and the same on all of them.

    Args:
        count: of the processes.
    """
    mesh = init_device_mesh(device.type, (count,))
    layers = [module for site, module in site_modules(network).items() if site.kind == "layer"]
    for module in (*layers, network):
        fully_shard(module, mesh=mesh)


def join_gradients(network: nn.Module, *, now: bool) -> None:
    """Whether the next backward pass adds up the gradients of all processes."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(now)


def whole(content: Any) -> Any:
    """Tensors in lists and dictionaries, gathered, on the CPU; all processes have to call it."""
    return tree_map(lambda each: each.full_tensor().cpu() if _is_part(each) else each, content)


def part_like(value: Tensor, ours: Tensor) -> Tensor:
    """The part of a whole tensor that this process has of another; itself where that is whole."""
    if not isinstance(ours, DTensor):
        return value
    return distribute_tensor(value.to(ours.device), ours.device_mesh, ours.placements)


def _is_part(value: object) -> bool:
    return isinstance(value, DTensor)
