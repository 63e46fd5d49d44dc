"""Samples of a pipeline of diffusers: loaded, called batch by batch, its pixels taken as it gives
them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipdit_cli.cache import NONE, Cache
from skipdit_cli.checkpoints import drawn, inventory, pipeline
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import SkipditError, first_line, lacks_memory
from skipdit_cli.generate import accelerated, conditioning, loaded, remarks
from skipdit_cli.generate.driven import Driven, drive
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.text import quiet
from skipdit_cli.generate.worker import own_device
from skipdit_cli.precision import dtype_of, products
from skipdit_cli.profiling.traced import call_arguments
from skipdit_cli.run import Run

SEEDS = 1_000_003  # that a seed is apart from the next one


def generator(seed: int, index: int) -> torch.Generator:
    """The generator of a sample, on the CPU whatever computes it.

    torch keeps the lowest 32 bits of what it is seeded with: within a run no two are alike.
    """
    return torch.Generator().manual_seed((seed * SEEDS + index) % (1 << 63))


def of_run(run: Run, *, device: str = "cpu", offload: str = "") -> Any:
    """The pipeline of a run; a process has one at a time.

    Args:
        offload: as `Options` has it.
    """
    dtype, device = dtype_of(run.precision), own_device(device)

    def load_it() -> Any:
        first = "cpu" if offload else device  # all of it may be more than a GPU holds
        pipe = load(run.card, device=first, dtype=dtype, quantize=run.quantize)
        return accelerated.placed(pipe, device, offload)

    key = run.card.folder, run.weights, device, dtype, run.quantize, offload
    return loaded.one("denoiser", key, load_it)


def load(card: Card, *, device: str = "cpu", dtype: str = "float32", quantize: str = "") -> Any:
    """A pipeline with its weights: read, on the CPU, or drawn, on the device.

    Args:
        quantize: one of QUANTIZATIONS, of its transformers; "" for not.
    Raises:
        SkipditError: a part cannot be read.
    """
    own, folder, kind = (
        pipeline.pipeline_class(card.variant),
        Path(card.folder),
        getattr(torch, dtype),
    )
    if card.random:
        pipe = _drawn(own, folder, device=device, dtype=dtype)
        for transformer in transformers_of(pipe, card):
            accelerated.quantize(transformer, quantize)
        return pipe
    config = accelerated.quantization(quantize, pipeline.denoisers(folder))
    try:
        with quiet():
            return own.from_pretrained(
                folder, dtype=kind, local_files_only=True, quantization_config=config
            )
    except Exception as error:  # each library's readers raise what they like
        place, problem = folder, f"cannot be loaded: {first_line(error)}"
        with suppress(Exception):
            place, problem = _fault(folder) or (place, problem)
        raise SkipditError(problem, place=str(place), fix=pipeline.AGAIN) from error


def _fault(folder: Path) -> tuple[Path, str] | None:
    """The part whose weights cannot be loaded, and why; None where something else is wrong."""
    from skipdit_cli.checkpoints import hollow_parts

    for name in pipeline.parts(folder):
        if (network := hollow_parts.blank(folder, name)) is None:
            continue
        damage = inventory.component_damage(name, folder / name)
        if damage := damage or _misfit(network, folder / name):
            return folder / name, f"its weights cannot be loaded: {damage}"
    return None


def _misfit(network: torch.nn.Module, folder: Path) -> str:
    """The first weight on disk that has another shape than config.json says, or ""."""
    from safetensors import safe_open

    wanted = {name: [*value.shape] for name, value in network.state_dict().items()}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as content:
            for name in content.keys():  # noqa: SIM118  # it is no dictionary
                shape = content.get_slice(name).get_shape()
                if shape != wanted.get(name, shape):
                    return f"{name} is {shape} in {path.name}, and {wanted[name]} by config.json"
    return ""


def _drawn(own: Any, folder: Path, *, device: str, dtype: str) -> Any:
    """A pipeline of which nothing is read but configurations and tokenizers."""
    from skipdit_cli.checkpoints import hollow_parts

    made = {}
    for name, kind in pipeline.parts(folder).items():
        if (network := hollow_parts.blank(folder, name)) is not None:
            made[name] = drawn.fill(network, device=device, dtype=dtype)
        else:
            made[name] = pipeline.class_of(*kind).from_pretrained(folder / name)
    return own(**made, **hollow_parts.options(folder))


def transformers_of(pipe: Any, card: Card) -> list[Any]:
    """The transformers of a pipeline, in the order in which they take turns."""
    return [getattr(pipe, name) for name in pipeline.denoisers(Path(card.folder))]


def called(
    run: Run,
    indices: Sequence[int],
    prompts: Sequence[str],
    *,
    pipe: Any,
    output_type: str,
    cache: Cache | None = None,
    steps: str = "",
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> tuple[Any, Driven]:
    """One call of a run's pipeline: what it gave, and what the cache did.

    Args:
        indices: of the samples. prompts: of each.
        output_type: as diffusers has it, "np" or "latent".
        cache, steps: in place of the run's own.
    """
    steps = steps or run.steps
    arguments = call_arguments(run.card, steps, run.guidance)
    if run.negative_prompt or run.traced_in(steps).wants_negative:
        arguments["negative_prompt"] = [run.negative_prompt] * len(prompts)
    generators = [generator(*run.stream(index)) for index in indices]
    with products(run.precision), remarks.brief(), _told(run, cache or run.cache):
        return drive(
            pipe,
            transformers_of(pipe, run.card),
            cache or run.cache,
            run.traced_in(steps),
            on_step=on_step,
            compile=run.compile,
            prompt=[*prompts],
            generator=generators if len(generators) > 1 else generators[0],
            output_type=output_type,
            **arguments,
        )


@contextmanager
def _told(run: Run, cache: Cache) -> Iterator[None]:
    """Tell what a pipeline's own call raises in one line; with a cache on it, it may be ours."""
    try:
        yield
    except SkipditError:
        raise
    except Exception as error:
        if cache.name != NONE or run.compile or lacks_memory(error):
            raise
        problem = f"its own call fails: {type(error).__name__}: {first_line(error)}"
        fix = "give other arguments with --call"
        raise SkipditError(problem, place=f"{run.card.variant} of {run.model}", fix=fix) from error


def pixels_of(
    run: Run,
    indices: Sequence[int],
    *,
    pipe: Any,
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> tuple[np.ndarray, Driven]:
    """Samples of a run, computed in one call: uint8 [B, H, W, 3] or [B, T, H, W, 3]."""
    prompts = [conditioning.meta(run, index)["prompt"] for index in indices]
    given, driven = called(run, indices, prompts, pipe=pipe, output_type="np", on_step=on_step)
    images = np.asarray(given, dtype=np.float32)
    if not np.isfinite(images).all():
        raise SkipditError(
            f"{run.model} gave values that are not finite in {run.precision} with {run.cache}",
            fix="take float32, or a milder cache",
        )
    return (images * 255).round().astype(np.uint8), driven


def latents_of(
    run: Run,
    indices: Sequence[int],
    *,
    pipe: Any,
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> Tensor:
    """Samples of a run before they are decoded, as the pipeline has them: float32 [B, ...]."""
    prompts = [conditioning.meta(run, index)["prompt"] for index in indices]
    given, _ = called(run, indices, prompts, pipe=pipe, output_type="latent", on_step=on_step)
    latents: Tensor = given.float()
    return latents


def encode_once(pipe: Any) -> None:
    """Let the text encoders of a pipeline remember what they gave for their tokens."""
    for name, part in pipe.components.items():
        if name.startswith("text_encoder") and part is not None:
            _encode_once(part)


def _encode_once(encoder: Any) -> None:
    """Let a text encoder remember what it gave for its last tokens."""
    if hasattr(encoder, "_skipdit_kept"):
        return
    inner = "_old_forward" if hasattr(encoder, "_old_forward") else "forward"  # accelerate's name
    own, kept = getattr(encoder, inner), dict[Any, Any]()

    def forward(*args: Any, **kwargs: Any) -> Any:
        tokens = args[0] if args else kwargs.get("input_ids")
        key = None if tokens is None else tuple(tokens.flatten().tolist())
        if key is None or key not in kept:
            kept[key] = own(*args, **kwargs)
        return kept[key]

    setattr(encoder, inner, forward)
    encoder._skipdit_kept = True
