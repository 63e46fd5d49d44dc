"""A pipeline without its weights, called for what its call does: steps, shapes, who is called when.

Its own code runs, scheduler and tokenizers are real, its transformers are on the meta device, and
each text encoder is a stand-in that gives zeros of the right shape. So the plan of a pipeline of
any class comes from the configurations alone, by the rules of the class itself.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.checkpoints import drawn, pipeline
from skipdit_cli.checkpoints.denoiser import HIDDEN, block_stream, paths
from skipdit_cli.errors import SkipditError, UsageError

CPU = torch.device("cpu")


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
        inputs: of the first call of the first transformer: its arguments, tensors on the meta
            device, for one sample.
        order: paths of its blocks as they are called.
        skips: pairs of layers (to, from): the output of one goes into the other as well.
        steady: whether hidden states keep their shape from one block to the next.
        output: shape of a sample, [H, W, 3] or [T, H, W, 3].
        decoding: operations of decoding it.
        scheduler: of the pipeline.
    """

    steps: list[Step] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    skips: list[tuple[int, int]] = field(default_factory=list)
    steady: bool = True
    output: tuple[int, ...] = ()
    decoding: int = 0
    scheduler: Any = None


def empty(folder: Path, name: str) -> nn.Module:
    """A part of a pipeline of a class of diffusers, on the meta device."""
    import diffusers

    class_name = pipeline.parts(folder)[name][1]
    with torch.device("meta"):
        return getattr(diffusers, class_name).from_config(pipeline.config(folder, name)).eval()


def blank(folder: Path, name: str) -> nn.Module | None:
    """A part without memory for its parameters, but with its buffers; None if it is no network."""
    import diffusers
    import transformers

    library, class_name = pipeline.parts(folder)[name]
    kind = getattr(diffusers if library == "diffusers" else transformers, class_name)
    if not issubclass(kind, nn.Module):
        return None
    if library == "diffusers":
        return drawn.empty(lambda: kind.from_config(pipeline.config(folder, name)))
    config = kind.config_class.from_pretrained(folder / name)
    return drawn.empty(lambda: kind(config))


def trace(folder: Path, arguments: Mapping[str, Any]) -> Trace:
    """Call a pipeline for one prompt without its weights.

    Args:
        folder: with the configurations, tokenizers among them.
        arguments: of the call.
    Raises:
        UsageError: the pipeline refuses the arguments.
        SkipditError: it cannot be called so.
    """
    class_name = pipeline.index(folder)["_class_name"]
    pipe = _built(folder, class_name)
    seen = Trace()
    names = pipeline.denoisers(folder)
    for place, name in enumerate(names):
        if (module := getattr(pipe, name)) is not None:
            _watch(module, place, seen)
    _count_steps(pipe.scheduler, seen)
    _decode_nothing(getattr(pipe, "vae", None), seen)
    pipe.set_progress_bar_config(disable=True)
    try:
        with torch.no_grad(), _quiet():
            result = pipe(prompt=["a"], output_type="np", **arguments)
    except SkipditError:
        raise
    except (ValueError, TypeError) as error:
        raise UsageError(
            _line(error), place=f"{class_name} of {folder}", fix="see --call"
        ) from None
    except Exception as error:
        problem = f"cannot be called without weights: {type(error).__name__}: {_line(error)}"
        raise SkipditError(problem, place=f"{class_name} of {folder}") from error
    seen.output = tuple(result[0][0].shape)
    seen.steps = [step for step in seen.steps if step.calls]
    if not seen.steps:
        raise SkipditError(f"{class_name} calls {', '.join(names)} at none of its steps")
    return seen


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what diffusers has to say of a call, which it says again when it is run."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _built(folder: Path, class_name: str) -> Any:
    """The pipeline, on the CPU as it believes."""
    own = pipeline.pipeline_class(class_name)
    here = {"_execution_device": property(lambda self: CPU), "device": property(lambda self: CPU)}
    parts = {name: _read(folder, name, *kind) for name, kind in pipeline.parts(folder).items()}
    return type(own.__name__, (own,), here)(**parts, **options(folder))


def options(folder: Path) -> dict[str, Any]:
    """What a pipeline is built with beside its parts: those that are absent, and settings."""
    said = pipeline.index(folder).items()
    absent = {name: None for name, part in said if part == [None, None]}
    settings = {
        name: value
        for name, value in said
        if not name.startswith("_") and not isinstance(value, list)
    }
    return {**absent, **settings}


def _read(folder: Path, name: str, library: str, class_name: str) -> Any:
    """A part as its files have it.

    Raises:
        SkipditError: they are absent or damaged, or of a class that is not installed.
    """
    try:
        return _part(folder, name, library, class_name)
    except SkipditError:
        raise
    except Exception as error:  # libraries and tokenizers raise what they like
        raise SkipditError(
            f"cannot be read as a {class_name}: {type(error).__name__}: {_line(error)}",
            place=str(folder / name),
            fix=pipeline.AGAIN,
        ) from error


def _part(folder: Path, name: str, library: str, class_name: str) -> Any:
    import diffusers
    import transformers

    if library == "diffusers":
        kind = getattr(diffusers, class_name)
        if issubclass(kind, nn.Module):
            module = empty(folder, name)
            if name not in pipeline.denoisers(folder):
                _with_buffers(module, lambda: kind.from_config(pipeline.config(folder, name)))
            return module
        return kind.from_pretrained(folder / name)
    kind = getattr(transformers, class_name)
    if issubclass(kind, transformers.PreTrainedModel):
        return StandIn(kind.config_class.from_pretrained(folder / name), class_name)
    return kind.from_pretrained(folder / name)


def _with_buffers(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Give a module its own buffers, which pipelines read: means and deviations of latents."""
    if own := [name for name, _ in module.named_buffers(recurse=False)]:
        there = dict(drawn.empty(build).named_buffers(recurse=False))
        module._buffers.update({name: there[name] for name in own})


class StandIn(nn.Module):
    """A text encoder that gives zeros, in the shapes of the real one."""

    dtype, device = torch.float32, CPU

    def __init__(self, config: Any, class_name: str) -> None:
        super().__init__()
        self.config, self.projected = config, class_name.endswith("WithProjection")

    def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        from transformers.utils import ModelOutput

        text = getattr(self.config, "text_config", self.config)
        width = getattr(text, "hidden_size", None) or text.d_model
        layers = getattr(text, "num_hidden_layers", None) or text.num_layers
        states = torch.zeros(*input_ids.shape, width)
        pooled = torch.zeros(len(input_ids), getattr(text, "projection_dim", None) or width)
        given = {"last_hidden_state": states, "pooler_output": torch.zeros(len(input_ids), width)}
        if self.projected:
            given = {"text_embeds": pooled, "last_hidden_state": states}
        return ModelOutput(**given, hidden_states=(states,) * (layers + 1))


def _count_steps(scheduler: Any, seen: Trace) -> None:
    """Enter every step of a scheduler, with what it is at."""
    own = scheduler.step

    @functools.wraps(own)
    def step(output: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        result = own(output, timestep, *args, **kwargs)
        seen.steps.append(Step())
        return result

    scheduler.step = step
    timesteps = scheduler.set_timesteps

    @functools.wraps(timesteps)
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        timesteps(*args, **kwargs)
        seen.steps[:] = [Step()]

    scheduler.set_timesteps = set_timesteps
    seen.scheduler = scheduler


def _decode_nothing(vae: Any, seen: Trace) -> None:
    """Let an autoencoder be asked on the meta device, and answer zeros."""
    if vae is None:
        return
    own = vae.decode

    @functools.wraps(own)
    def decode(z: Tensor, *args: Any, **kwargs: Any) -> Any:
        with FlopCounterMode(display=False) as counted:
            result = own(z.to("meta"), *args, **kwargs)
        seen.decoding += counted.get_total_flops()
        return zeros(result)

    vae.decode = decode


def _watch(module: nn.Module, place: int, seen: Trace) -> None:
    """Let a transformer be called on the meta device, once in earnest, and enter its calls."""
    own, shapes = module.forward, dict[Any, Any]()

    def forward(*args: Any, **kwargs: Any) -> Any:
        names = block_stream(module).parameters
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x = given[HIDDEN] if HIDDEN in given else args[0]
        step = seen.steps[-1]
        step.denoiser, step.calls = place, step.calls + 1
        step.samples += len(x)
        _note_time(seen, step)
        if (key := tuple(x.shape)) not in shapes:
            on_meta = _on_meta(given)
            first = not seen.inputs
            if first:
                seen.inputs = _of_one(on_meta, len(x))
                finish = _note_blocks(module, seen)
            result = own(**on_meta)
            if first:
                finish()
            shapes[key] = result
        return zeros(shapes[key])

    module.forward = forward  # type: ignore[method-assign]


def _note_time(seen: Trace, step: Step) -> None:
    scheduler = seen.scheduler
    at = min(len(seen.steps), len(scheduler.timesteps)) - 1
    step.timestep = float(scheduler.timesteps[at])
    if is_flow(scheduler):
        step.sigma = float(scheduler.sigmas[at])
        return
    power = float(scheduler.alphas_cumprod[round(step.timestep)])
    signal, noise = power**0.5, (1 - power) ** 0.5
    step.sigma = noise / (signal + noise)


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is one of flow matching, in which a sample is a line to its noise."""
    config = scheduler.config
    return (
        not hasattr(scheduler, "alphas_cumprod")
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def _note_blocks(module: nn.Module, seen: Trace) -> Any:
    """Watch the blocks of a transformer during one call; returns what ends that."""
    known = {module.get_submodule(path): path for path in paths(module)}
    outputs: list[list[Tensor]] = []
    shapes: set[tuple[int, ...]] = set()

    def enter(block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        stream, layer = block_stream(block), len(seen.order)
        states = stream.entering(args, kwargs)
        shapes.add(tuple(states[-1].shape))
        others = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        for source, left in enumerate(outputs[:-1]):
            for each in others:
                if any(each is one for one in left) and not any(each is one for one in states):
                    seen.skips.append((layer, source))
        seen.order.append(known[block])

    def leave(block: nn.Module, args: tuple, output: Any) -> None:
        left = output if isinstance(output, tuple) else (output,)
        outputs.append([each for each in left if isinstance(each, Tensor)])

    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in known]
    handles += [block.register_forward_hook(leave) for block in known]

    def finish() -> None:
        seen.steady = len(shapes) == 1
        for handle in handles:
            handle.remove()

    return finish


def _on_meta(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {key: _on_meta(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_meta(each) for each in value)
    return value


def zeros(value: Any) -> Any:
    """Zeros of the shapes of all tensors in a value, on the CPU."""
    if isinstance(value, Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return type(value)(**{key: zeros(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(zeros(each) for each in value)
    return value


def _of_one(given: dict[str, Any], batch: int) -> dict[str, Any]:
    """The arguments of one sample of a batch."""
    return {
        name: value[:1]
        if isinstance(value, Tensor) and value.dim() and len(value) == batch
        else value
        for name, value in given.items()
    }
