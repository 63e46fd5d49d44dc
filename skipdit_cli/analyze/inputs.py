"""What a model is given at chosen steps of a run, recorded so that analyses can ask it again.

The uncached samples are generated once; what the network got at those steps, both halves of
guidance and all conditions, is a part on disk (`parts.py`), which later tasks read in whatever
process.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skipdit_cli.analyze.features import Where, batches, encode, network_of
from skipdit_cli.analyze.parts import Parts, read
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate.batch import latents_of
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.precision import products
from skipdit_cli.run import Run

if TYPE_CHECKING:
    from skipdit_cli.models import Network

EARLY = 0.1  # of the steps, where nothing says at which ones a model is looked at
NAMES = "hidden_states", "timestep"  # of what `forward` gets by position

Given = Mapping[str, Tensor]  # what `forward` gets, by name, [B, ...], or [2B, ...] with guidance


@dataclass(frozen=True)
class Asked:
    """What the tasks of a run need, in any process.

    Attributes:
        run: without a cache.
        at: the steps, from 1.
        folder: of the parts.
        where: it is computed.
    """

    run: Run
    at: tuple[int, ...]
    folder: Path
    where: Where

    @property
    def batches(self) -> list[range]:
        """The samples of every batch."""
        return batches(self.run)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The training timesteps of the steps."""
        return tuple(self.run.timesteps[step - 1] for step in self.at)


def asked(run: Run, at: tuple[int, ...], options: Options, folder: Path) -> Asked:
    """What the tasks of a run need."""
    return Asked(run, at, folder, Where(options.root, options.device, options.weights_path))


def steps_at(run: Run, at: Sequence[int] | None) -> tuple[int, ...]:
    """The steps that are looked at, from 1, in their order; else an early, a middle, the last one.

    Raises:
        UsageError: the run has no such step.
    """
    steps = len(run.timesteps)
    if at is None:
        at = (round(EARLY * steps), round(steps / 2), steps)
        return tuple(sorted({max(1, step) for step in at}))
    for step in at:
        if not 1 <= step <= steps:
            raise UsageError(
                f"{run.model} has no step {step}",
                place="--at",
                fix=f"take steps from 1 to {steps}, the last one",
            )
    return tuple(sorted(set(at)))


def prepared(runs: Sequence[Run], options: Options) -> None:
    """Have what the runs are generated with here: weights, and the embeddings of prompts.

    Raises:
        MissingAssetError: weights, prompts or an encoder are not here.
    """
    for run in runs:
        local.require(run.card, path=options.weights_path)
    for run in runs:
        encode(run, options)


@contextmanager
def model_of(asked: Asked) -> "Iterator[Network]":
    """The network of a run, in the run's precision and without gradients."""
    run = asked.run
    with torch.no_grad(), products(run.precision), memory_checked(run.batch_size):
        yield network_of(run, asked.where)


def recording(asked: Asked, parts: Parts) -> None:
    """Have every batch of a run recorded."""
    work = {part(asked, each): functools.partial(record, asked, each) for each in asked.batches}
    parts.compute(work, f"{asked.run.label}, its samples")


def part(asked: Asked, indices: range) -> str:
    """The name of the part that holds what was recorded of a batch."""
    return f"{asked.run.model}-inputs-{indices.start:06d}"


def record(asked: Asked, indices: range) -> dict[str, Tensor]:
    """Generate a batch and record what its network gets at the steps: STEP.NAME -> tensor."""
    found: dict[str, Tensor] = {}
    latest: dict[str, Tensor] = {}

    def enters(module: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Any]) -> None:
        latest.update(zip(NAMES, args, strict=True))
        latest.update({name: x for name, x in kwargs.items() if isinstance(x, Tensor)})

    def note(session: Session, x: Tensor) -> None:
        if (step := session.step + 1) in asked.at:
            found.update({f"{step}.{name}": x.clone() for name, x in latest.items()})

    with model_of(asked) as model:
        handle = model.register_forward_pre_hook(enters, with_kwargs=True)
        try:
            latents_of(asked.run, indices, model=model, root=asked.where.root, on_step=note)
        finally:
            handle.remove()
    return found


def recorded(asked: Asked, indices: range, model: "Network") -> dict[int, Given]:
    """What `record` has kept of a batch, by step, on the device of the model."""
    found, where = read(asked.folder, part(asked, indices)), next(model.parameters()).device
    given: dict[int, dict[str, Tensor]] = {step: {} for step in asked.at}
    for key, value in found.items():
        step, _, name = key.partition(".")
        given[int(step)][name] = value.to(where)
    return dict(given)


def called(model: "Network", given: Given) -> Tensor:
    """What a model predicts, noise or velocity without the variance: like its hidden states."""
    x, timestep = (given[name] for name in NAMES)
    conditions = {name: value for name, value in given.items() if name not in NAMES}
    out = model(x, timestep, **conditions, return_dict=False)[0]
    return out.narrow(model.CHANNEL_DIM, 0, x.shape[model.CHANNEL_DIM])


def by_sample(run: Run, values: Tensor) -> Tensor:
    """The mean over both halves of guidance: [..., B or 2B] -> [..., B]."""
    return values.unflatten(-1, (2 if run.guided else 1, -1)).mean(dim=-2)


def finite(run: Run, values: Tensor, fix: str) -> Tensor:
    """The values.

    Raises:
        SkipditError: some are not finite.
    """
    if not torch.isfinite(values).all():
        raise SkipditError("what it computes is not finite", place=run.model, fix=fix)
    return values


def keys(runs: Sequence[Run]) -> str:
    """What parts of the runs depend on: their keys, and how many samples, which these leave out."""
    return " ".join(f"{run.key}x{run.num_samples}" for run in runs)


def alike(values: Sequence[Any]) -> Any:
    """What all runs have, or where they differ what each has, in turn."""
    return values[0] if all(value == values[0] for value in values) else [*values]


def step_name(found: Sequence[Asked], k: int) -> str:
    """The k-th step that is looked at of one or several runs: `step 5 (timestep 900)`."""
    said = [f"step {each.at[k]} (timestep {each.timesteps[k]})" for each in found]
    return " and ".join(dict.fromkeys(said))
