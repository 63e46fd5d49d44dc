"""A pipeline without its weights, called for what its call does: steps, shapes, who is called when.

Its own code runs, scheduler and tokenizers are real, its transformers are on the meta device, and
each text encoder is a stand-in that gives zeros of the right shape. So the plan of a pipeline of
any class comes from the configurations alone, by the rules of the class itself.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.checkpoints import hollow_parts, pipeline
from skipdit_cli.checkpoints.denoiser import by_name, latents, parameters
from skipdit_cli.checkpoints.scheduled import instead
from skipdit_cli.checkpoints.untouched import on_meta, untouched, zeros
from skipdit_cli.checkpoints.watched import Watched
from skipdit_cli.errors import SkipditError, UsageError, first_line


@dataclass
class Step:
    """One step of a scheduler.

    Attributes:
        timestep: as the scheduler has it, 1000 to 0.
        sigma: what its noise is to noise and signal together, 1 to 0.
        denoiser: place of the transformer that was called.
        calls: how often it was.
        samples: in all these calls together.
    """

    timestep: float = 0.0
    sigma: float = 0.0
    denoiser: int = 0
    calls: int = 0
    samples: int = 0


@dataclass
class Trace:
    """What one call of a pipeline for one prompt does.

    Attributes:
        steps: in their order.
        first: the arguments of every call of the first step; tensors are on the meta device where
            `values` says no.
        given: shape of the latents among them.
        values: whether these have to have values, as `Untouched` keeps them.
        watched: what goes through its blocks, a `Watched`.
        output: shape of a sample, [H, W, 3] or [T, H, W, 3].
        decoding: operations of decoding it.
        decodes: part, and call that decodes all of a sample again, or some of it, on the meta
            device.
        scheduler: of the pipeline.
        guided: per step, the mean size of what the scheduler is given, where transformers give 1
            for one half of the batch and 0 for the other: first the first half, then in turns.
    """

    steps: list[Step] = field(default_factory=list)
    first: list[dict[str, Any]] = field(default_factory=list)
    given: tuple[int, ...] = ()
    values: bool = False
    watched: Any = None
    output: tuple[int, ...] = ()
    decoding: int = 0
    decodes: list[tuple[nn.Module, Callable[[], object]]] = field(default_factory=list)
    scheduler: Any = None
    guided: list[float] = field(default_factory=list)

    @property
    def inputs(self) -> dict[str, Any]:
        """The arguments of the first call, for one sample."""
        step = self.steps[0]
        return _of_one(self.first[0], step.samples // step.calls)

    @property
    def conditional_first(self) -> bool:
        """Whether the conditional half of a doubled batch comes before the null one.

        Their guided mean, null + g (conditional - null), is larger where the conditional one is 1.
        """
        return len(self.guided) > 1 and self.guided[0] > self.guided[1]


def trace(folder: Path, arguments: Mapping[str, Any]) -> Trace:
    """Call a pipeline for one prompt without its weights.

    Args:
        folder: with the configurations, tokenizers among them.
        arguments: of the call; its prompt is one word where they have none.
    Raises:
        UsageError: the pipeline refuses the arguments.
        SkipditError: it cannot be called so.
    """
    seen = Trace()
    pipe = _built(folder, seen)
    names = pipeline.denoisers(folder)
    for place, name in enumerate(names):
        if (module := getattr(pipe, name)) is not None:
            _watch(module, place, seen)
    _count_steps(pipe.scheduler, seen)
    result = _call(pipe, folder, arguments)
    seen.output = tuple(result[0][0].shape)
    seen.steps = [step for step in seen.steps if step.calls]
    if not seen.steps:
        class_name = pipeline.index(folder)["_class_name"]
        raise SkipditError(f"{class_name} calls {', '.join(names)} at none of its steps")
    return seen


def told_apart(folder: Path, arguments: Mapping[str, Any], prompts: tuple[str, str]) -> bool:
    """Whether a transformer is given other shapes or masks with one prompt than with another.

    Args:
        folder, arguments: as for `trace`.
    """
    pipe, given = _built(folder, Trace()), list[dict[str, Any]]()
    for module in (getattr(pipe, name) for name in pipeline.denoisers(folder)):
        if module is not None:
            module.forward = functools.partial(_reached, given, module)
    for text in prompts:
        with suppress(_Reached), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _call(pipe, folder, {**arguments, "prompt": [text]})
    one, other = map(tree_leaves, given)
    return len(one) != len(other) or not all(map(_same, one, other))


class _Reached(BaseException):
    """A transformer is called; no pipeline catches it."""


def _reached(given: list[dict[str, Any]], module: nn.Module, *args: Any, **kwargs: Any) -> None:
    """In place of a transformer: enters what it is given, and computes nothing."""
    given.append(by_name(parameters(module), args, kwargs))
    raise _Reached


def _same(one: Any, other: Any) -> bool:
    """Whether two tensors, or other values, are equal; all that text encoders give is zero."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def _call(pipe: Any, folder: Path, arguments: Mapping[str, Any]) -> Any:
    """What a pipeline's call gives."""
    class_name = pipeline.index(folder)["_class_name"]
    pipe.set_progress_bar_config(disable=True)
    try:
        with torch.no_grad(), _quiet():
            return pipe(**{"prompt": [pipeline.WORD], "output_type": "np", **arguments})
    except SkipditError:
        raise
    except ValueError as error:
        raise UsageError(
            first_line(error), place=f"{class_name} of {folder}", fix="see --call"
        ) from None
    except Exception as error:
        problem = f"cannot be called without weights: {type(error).__name__}: {first_line(error)}"
        fix = "where its own call fails so, give it other arguments with --call"
        raise SkipditError(problem, place=f"{class_name} of {folder}", fix=fix) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what diffusers and transformers say of a call, which they say again when it runs."""
    from diffusers.utils import logging
    from transformers.utils import logging as of_transformers

    with ExitStack() as stack:
        for each in (logging, of_transformers):
            stack.callback(each.set_verbosity, each.get_verbosity())
            each.set_verbosity_error()
        yield


def _built(folder: Path, seen: Trace) -> Any:
    """The pipeline, on the CPU as it believes, whose autoencoder and the like answer zeros."""
    from diffusers import ModelMixin

    own = pipeline.pipeline_class(pipeline.index(folder)["_class_name"])
    here = {
        "_execution_device": property(lambda self: hollow_parts.CPU),
        "device": property(lambda self: hollow_parts.CPU),
    }
    parts = {name: hollow_parts.read(folder, name) for name in pipeline.parts(folder)}
    for name, part in parts.items():
        answers = isinstance(part, nn.Module) and isinstance(part, ModelMixin)
        if answers and name not in pipeline.denoisers(folder):
            _answer_nothing(part, seen)
    return type(own.__name__, (own,), here)(**parts, **hollow_parts.options(folder))


def _count_steps(scheduler: Any, seen: Trace) -> None:
    """Enter every step of a scheduler, with what it is at."""

    def step(own: Callable[..., Any], output: Any, *args: Any, **kwargs: Any) -> Any:
        result = own(output, *args, **kwargs)
        if isinstance(output, Tensor):
            seen.guided.append(float(output.float().abs().mean()))
        seen.steps.append(Step())
        return result

    def set_timesteps(own: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        own(*args, **kwargs)
        seen.steps[:], seen.guided[:] = [Step()], []

    instead(scheduler, step=step, set_timesteps=set_timesteps)
    seen.scheduler = scheduler


def _answer_nothing(part: nn.Module, seen: Trace) -> None:
    """Let an autoencoder, or another part, be asked on the meta device, and answer zeros."""

    def hollow(own: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(own)
        def ask(*args: Any, **kwargs: Any) -> Any:
            call = functools.partial(own, *on_meta(args), **on_meta(kwargs))
            with untouched(), FlopCounterMode(display=False) as counted:
                result = call()
            seen.decoding += counted.get_total_flops()
            seen.decodes.append((part, call))
            return zeros(result)

        return ask

    for name in ("forward", "decode"):
        if hasattr(part, name):
            setattr(part, name, hollow(getattr(part, name)))


def _watch(module: nn.Module, place: int, seen: Trace) -> None:
    """Let a transformer be called on the meta device, once in earnest, and enter its calls."""
    own, shapes = module.forward, dict[Any, Any]()

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = by_name(parameters(module), args, kwargs)
        x = latents(module, args, kwargs)
        step = seen.steps[-1]
        step.denoiser, step.calls = place, step.calls + 1
        step.samples += len(x)
        _note_time(seen, step)
        seen.given = seen.given or (1, *x.shape[1:])
        if (key := tuple(x.shape)) not in shapes:
            shapes[key] = _shown(module, own, given, seen)
        if not any(each.calls for each in seen.steps[:-1]):
            seen.first.append(given if seen.values else on_meta(given))
        return _halves(zeros(shapes[key]), len(x), len(seen.steps) % 2)

    module.forward = forward  # type: ignore[method-assign]


def _shown(module: nn.Module, own: Any, given: dict[str, Any], seen: Trace) -> Any:
    """What a transformer gives on the meta device; the first call is watched."""

    def call() -> Any:
        inputs = given if seen.values else on_meta(given)
        if seen.watched:
            with untouched(seen.values):
                return own(**inputs)
        watched = Watched(module)
        with untouched(seen.values), watched.watching():
            result = own(**inputs)
        seen.watched = watched
        return result

    try:
        return call()
    except UsageError:
        raise
    except (RuntimeError, NotImplementedError):  # values were asked for
        if seen.values:
            raise
    seen.values = True
    try:
        return call()
    except NotImplementedError as error:  # of an operator of which the meta device knows no shape
        raise SkipditError(
            "picks by values that its layers compute, so its costs are not known without weights",
            place=type(module).__name__,
            fix="take another pipeline",
        ) from error


def _halves(result: Any, batch: int, first: int) -> Any:
    """A result that is one in one half of its batch and zero in the other.

    So that what the scheduler is given tells which of them is the conditional one.
    """

    def fill(value: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() and len(value) == batch:
            value.chunk(2)[not first][:] = 1
        elif isinstance(value, list) and len(value) == batch:
            for each in value[: batch // 2] if first else value[batch // 2 :]:
                each.fill_(1)
        elif isinstance(value, tuple):
            for each in value:
                fill(each)
        elif isinstance(value, dict):
            fill(tuple(value.values()))
        return value

    return fill(result) if batch > 1 else result


def _note_time(seen: Trace, step: Step) -> None:
    scheduler = seen.scheduler
    at = min(len(seen.steps), len(scheduler.timesteps)) - 1
    step.timestep = float(scheduler.timesteps[at])
    if is_flow(scheduler):
        step.sigma, ours = _noise(scheduler, at)
        step.timestep = step.timestep if ours else 1000 * step.sigma
        return
    power = float(scheduler.alphas_cumprod[round(step.timestep)])
    signal, noise = power**0.5, (1 - power) ** 0.5
    step.sigma = noise / (signal + noise)


def _noise(scheduler: Any, at: int) -> tuple[float, bool]:
    """The sigma of a step, and whether its timesteps go from 1000 to 0 as well.

    Those of some go up, or from less than 2; and some have no sigmas.
    """
    times, inverted = scheduler.timesteps, bool(scheduler.config.get("invert_sigmas"))
    most = float(max(times))
    known = getattr(scheduler, "sigmas", None)
    sigma = float(times[at]) / most if known is None else float(known[at])
    return (1 - sigma if inverted else sigma), most > 2 and not inverted


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is one of flow matching, in which a sample is a line to its noise."""
    config = scheduler.config
    return (
        not hasattr(scheduler, "alphas_cumprod")
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def _of_one(given: dict[str, Any], batch: int) -> dict[str, Any]:
    """The arguments of one sample of a batch: of tensors, and of lists with a tensor for each."""
    listed = any(isinstance(each, list) and len(each) == batch for each in [*given.values()][:1])

    def one(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:1] if value.dim() and len(value) == batch else value
        if isinstance(value, list | tuple):
            if listed and len(value) == batch:
                return value[:1]
            return type(value)(one(each) for each in value)
        if isinstance(value, dict):
            return {name: one(each) for name, each in value.items()}
        return value

    return {name: one(value) for name, value in given.items()}
