"""The network that is trained: what it starts from, its optimizer, its average, its folder."""

import copy
import functools
import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints import folder as folders
from skipdit_cli.checkpoints.local import require
from skipdit_cli.checkpoints.networks import arguments, build, load
from skipdit_cli.errors import UsageError, warn
from skipdit_cli.sites import site_modules
from skipdit_cli.train.processes import Processes
from skipdit_cli.train.settings import TrainingSettings
from skipdit_cli.train.sharded import part_like, whole

if TYPE_CHECKING:
    from skipdit_cli.models import Network

SKIP = ".skip."  # in the name of a skip branch's parameters
OWN = ("skip", "num_classes")  # arguments that may differ from those of the start


def started(settings: TrainingSettings) -> "Network":
    """The network before the first step, float32 on the CPU.

    Raises:
        UsageError: the start has another architecture.
        MissingAssetError: its weights are not here.
    """
    torch.manual_seed(settings.seed)
    model = build(settings.card, device="cpu")
    if settings.start is None:
        return model
    check_start(settings)
    state = load(catalog.card(settings.start)).state_dict()
    own = model.state_dict()
    other = sorted(key for key in state if key in own and state[key].shape != own[key].shape)
    if other:
        warn(
            f"{len(other)} of its tensors have the shape of other classes and are drawn afresh",
            place=f"--start {settings.start}",
        )
    kept = {key: value for key, value in state.items() if key not in other}
    model.load_state_dict(kept, strict=False)
    return model


def check_start(settings: TrainingSettings) -> None:
    """Raise a UsageError where the start has another architecture, or a MissingAssetError."""
    if settings.start is None:
        return
    start = catalog.card(settings.start, place="--start")
    ours, theirs = arguments(settings.card), arguments(start)
    same = start.family == settings.card.family and all(
        ours.get(key) == theirs.get(key) for key in {*ours, *theirs} if key not in OWN
    )
    if not same:
        raise UsageError(
            f"{settings.start} has another architecture than {settings.model}",
            place="--start",
            fix="take the vanilla model of the same size, or the model itself",
        )
    if start.skip and not settings.card.skip:
        raise UsageError(
            f"has skip branches, and {settings.model} has none",
            place=f"--start {settings.start}",
            fix="take the vanilla model",
        )
    require(start)


def checkpoint_layers(model: "Network") -> None:
    """Have layers computed again in the backward pass in place of keeping what they gave."""
    for site, module in site_modules(model).items():
        if site.kind == "layer":
            module.forward = functools.partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]


def rate(settings: TrainingSettings, step: int) -> float:
    """The learning rate of a step; each stage is warmed up and has a schedule of its own."""
    first = step < settings.skip_steps
    length = settings.skip_steps if first else settings.steps
    step -= 0 if first else settings.skip_steps
    falls = {
        "cosine": 0.5 * (1 + math.cos(math.pi * step / length)),
        "linear": 1 - step / length,
        "constant": 1.0,
    }
    warm = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
    return settings.learning_rate * warm * falls[settings.schedule]


class Trained:
    """A network while it is trained, with its optimizer and the average of its weights."""

    def __init__(
        self, network: "Network", settings: TrainingSettings, processes: Processes, step: int
    ) -> None:
        from diffusers.training_utils import EMAModel

        self.network, self._settings, self._processes = network, settings, processes
        self._average: Any = EMAModel(
            network.parameters(),
            decay=settings.ema,
            foreach=not processes.sharded,  # of which parts know no copy
        )
        self._alone: bool | None = None  # whether the skip branches alone are trained
        self.stage(step)

    def __call__(self, *given: Any, **conditions: Any) -> Any:
        return self._called(*given, **conditions)

    def stage(self, step: int) -> None:
        """Train what is trained at a step: a stage begins with an optimizer of its own."""
        alone = step < self._settings.first_stage
        if alone == self._alone:
            return
        self._alone = alone
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not alone or SKIP in name)
        self._trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self._trained, lr=self._settings.learning_rate, weight_decay=0
        )
        self._called, self._optimizer = self._processes.prepare(self.network, optimizer)

    def computing(self, *, last: bool) -> AbstractContextManager[None]:
        """A part of a step; processes join their gradients in the last one."""
        return nullcontext() if last else self._processes.alone(self._called)

    def update(self, step: int) -> Tensor:
        """Step the optimizer and the average; the norm of the gradient before it is cut."""
        settings = self._settings
        cut = settings.clip if settings.clip and step >= settings.clip_from else math.inf
        norm = self._processes.clip(self._trained, cut)
        for group in self._optimizer.param_groups:
            group["lr"] = rate(settings, step)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.step(self.network.parameters())
        return norm.detach()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it; all processes have to ask."""
        scaler = self._processes.scaler
        content: dict[str, Any] = whole(
            {
                "model": self.network.state_dict(),
                "average": list(self._average.shadow_params),
                "averaged": self._average.optimization_step,
                "optimizer": self._optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler else {},
            }
        )
        return content

    def load(self, kept: dict[str, Any]) -> None:
        """Continue from what a checkpoint holds; the network has its weights already."""
        for ours, value in zip(self._average.shadow_params, kept["average"], strict=True):
            ours.copy_(part_like(value, ours))
        self._average.optimization_step = kept["averaged"]
        if kept["optimizer"]["state"] and self._stands(kept["optimizer"]):
            for place, state in kept["optimizer"]["state"].items():
                ours = self._trained[place]
                for name, value in state.items():
                    if value.shape == ours.shape:  # a moment, not the count of steps
                        state[name] = part_like(value, ours)
            self._optimizer.load_state_dict(kept["optimizer"])
        if self._processes.scaler and kept["scaler"]:
            self._processes.scaler.load_state_dict(kept["scaler"])

    def _stands(self, optimizer: dict[str, Any]) -> bool:
        """Whether the optimizer is that of this stage; a stage begins with a new one."""
        return sum(len(group["params"]) for group in optimizer["param_groups"]) == len(
            self._trained
        )

    def averaged(self) -> "Network":
        """The network with the average of its weights, float32 on the CPU, in eval mode.

        All processes have to ask.
        """
        average = build(self._settings.card, device="cpu")
        average.load_state_dict({k: whole(v).cpu() for k, v in self.network.state_dict().items()})
        for ours, value in zip(average.parameters(), self._average.shadow_params, strict=True):
            ours.data.copy_(whole(value))
        return average.eval().requires_grad_(False)


def write(
    average: "Network", settings: TrainingSettings, folder: Path, *, half: bool = False
) -> None:
    """A model into a folder: config.json, card.json and weights."""
    chosen = copy.deepcopy(average).half() if half else average
    chosen.save_pretrained(folder)
    folders.write(folder, settings.card)
