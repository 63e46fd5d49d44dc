"""The processes that share training, by accelerate: DDP or FSDP where there are several."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.train import sharded as parts

if TYPE_CHECKING:
    from skipdit_cli.models import Network

AUTOCAST = {"float32": "no", "tf32": "no", "bfloat16": "bf16", "float16": "fp16"}


def require() -> None:
    """Raise a MissingAssetError unless accelerate is here."""
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise MissingAssetError(
            "training needs accelerate", fix="run `pip install 'skipdit[train]'`"
        ) from None


def check_shard(precision: str, count: int, *, sharded: bool) -> None:
    """Raise a UsageError where a training cannot be shared out in parts."""
    if sharded and count == 1:
        raise UsageError(
            "one process has nobody to share weights with",
            place="--shard",
            fix="give --processes, as many as GPUs, or leave it out",
        )
    if sharded and precision == "float16":
        raise UsageError(
            "float16 is not trained in parts", place="--precision", fix="take bfloat16"
        )


class Processes(AbstractContextManager["Processes"]):
    """This process among those that train together; alone unless accelerate started several.

    Args:
        precision: of the network's products.
        device: "cpu" or "cuda".
        sharded: whether each keeps a part of weights and optimizer alone (FSDP).
    Raises:
        MissingAssetError: accelerate is not here.
        UsageError: the device cannot multiply so, accelerate was started for something else, or
            there is nobody to share parts with.
    """

    def __init__(self, precision: str, device: str, *, sharded: bool = False) -> None:
        require()
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        if precision == "float16" and device == "cpu":
            raise UsageError(
                "float16 is trained on a GPU alone", place="--precision", fix="take bfloat16"
            )
        AcceleratorState._reset_state()  # what an earlier training in this process asked for
        self._accelerator: Any = Accelerator(
            mixed_precision=AUTOCAST[precision], cpu=device == "cpu"
        )
        if self._accelerator.distributed_type.value not in ("NO", "MULTI_GPU", "MULTI_CPU"):
            raise UsageError(
                f"{self._accelerator.distributed_type.value} is not known to training",
                place="accelerate launch",
                fix="start it with --multi_gpu; --shard is its FSDP",
            )
        self.sharded = sharded
        check_shard(precision, self.count, sharded=sharded)

    def __exit__(self, *error: object) -> None:
        self._accelerator.end_training()

    @property
    def main(self) -> bool:
        """Whether this one writes and speaks."""
        return bool(self._accelerator.is_main_process)

    @property
    def count(self) -> int:
        return int(self._accelerator.num_processes)

    @property
    def device(self) -> torch.device:
        return torch.device(self._accelerator.device)

    @property
    def named(self) -> str:
        """The device for people."""
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"

    def rows(self, size: int, *, parts: int) -> list[range]:
        """The rows of a batch that this process computes, in parts that share it evenly."""
        each = size // (self.count * parts)
        first = self._accelerator.process_index * parts * each
        return [range(first + i * each, first + (i + 1) * each) for i in range(parts)]

    def share_out(self, network: "Network") -> None:
        """Leave this process its part of a network, where parts are kept."""
        if self.sharded:
            parts.shard(network, self.device, self.count)

    def prepare(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """What is called, and what steps, in place of a network and its optimizer."""
        self._accelerator.free_memory()  # those of an earlier stage
        if self.sharded:
            return network, self._accelerator.prepare(optimizer)
        return tuple(self._accelerator.prepare(network, optimizer))  # type: ignore[return-value]

    @property
    def scaler(self) -> Any:
        """What scales the loss in float16; None in other precisions."""
        return self._accelerator.scaler

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def clip(self, parameters: list[nn.Parameter], norm: float) -> Tensor:
        """Cut gradients to a norm; the norm that they had."""
        told: Tensor = parts.whole(self._accelerator.clip_grad_norm_(parameters, norm))
        return told

    def autocast(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    @contextmanager
    def alone(self, model: Any) -> Iterator[None]:
        """Leave the gradients of several processes apart in the block."""
        parts.join_gradients(model, now=False)
        with self._accelerator.no_sync(model):
            yield
        parts.join_gradients(model, now=True)

    def mean(self, value: float) -> float:
        """The mean over the processes."""
        told = torch.tensor(value, dtype=torch.float64 if self.device.type == "cpu" else None)
        return float(self._accelerator.reduce(told.to(self.device), reduction="mean"))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def memory(self) -> int:
        """The most bytes that were allocated on the GPU; of the process where there is none."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated())
        import psutil

        return int(psutil.Process(os.getpid()).memory_info().rss)
