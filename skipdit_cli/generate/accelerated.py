"""Pipelines that are larger than their GPU: weights in 8 bits, and parts that wait beside it.

Both are diffusers' own: its configuration of torchao, and its two ways of offloading.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from skipdit_cli.precision import QUANTIZATIONS

if TYPE_CHECKING:
    from torch import nn

AUTOENCODER = "autoencoder"  # of our own models
OF_PIPELINES = ("model", "group")
OFFLOADS = (AUTOENCODER, *OF_PIPELINES)
GROUP = {"offload_type": "block_level", "num_blocks_per_group": 1}


def quantization(name: str, parts: Iterable[str]) -> Any:
    """What `from_pretrained` of a pipeline is given so that it quantizes some of its parts.

    Args:
        name: one of QUANTIZATIONS, or "" for None.
    """
    if not name:
        return None
    from diffusers import PipelineQuantizationConfig, TorchAoConfig

    each: dict[str, Any] = {part: TorchAoConfig(_of_torchao(name)) for part in parts}
    return PipelineQuantizationConfig(quant_mapping=each)


def quantize(module: "nn.Module", name: str) -> None:
    """Quantize a module that was not read: the weights of its linear layers, as diffusers does."""
    if name:
        from torchao.quantization import quantize_

        quantize_(module, _of_torchao(name))


def _of_torchao(name: str) -> Any:
    from torchao import quantization as known

    return getattr(known, QUANTIZATIONS[name])()


def placed(pipe: Any, device: str, offload: str) -> Any:
    """A pipeline on a device, or beside it.

    Args:
        offload: "" for nothing, "model" for every part but the one that computes, "group" for every
            block but that.
    """
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "group":
        pipe.enable_group_offload(onload_device=device, offload_device="cpu", **GROUP)
    else:
        pipe.to(device)
    return pipe
