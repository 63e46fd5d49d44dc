"""A batch of a run: its samples computed and encoded, in whatever process.

A Run is computed in batches of consecutive indices, always whole ones: a sample then depends on its
seed, its index and the batch size alone, whichever process computes it and however often the run
was interrupted.
"""

import atexit
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skipdit_cli.checkpoints import networks
from skipdit_cli.errors import SkipditError, StoreError
from skipdit_cli.generate import conditioning, decode, loaded, pipelines, rng
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.loop import denoise
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.worker import own_device
from skipdit_cli.precision import dtype_of, products
from skipdit_cli.run import Run
from skipdit_cli.storage import provenance, trajectory
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.lock import held
from skipdit_cli.storage.store import open_store

if TYPE_CHECKING:
    import numpy as np

SCRATCH = "skipdit-scratch-"
NEW = 60.0  # seconds after which a folder of a process that lives is held
File = tuple[str, bytes]  # name in a run's folder, and content
Files = list[File]  # all of a sample, or the trajectory


@dataclass(frozen=True)
class How:
    """What a batch is made with, which changes no pixel.

    Attributes:
        device: "cpu" or "cuda".
        weights_path: a checkpoint file instead of the known place.
        offload: what is kept off the GPU while it is not needed, as `Options` has it.
        previews: make an mp4 of every clip, to look at.
    """

    device: str = "cpu"
    weights_path: Path | None = None
    offload: str = ""
    previews: bool = True


def make(
    run: Run,
    wanted: list[int],
    *,
    root: Path,
    how: How,
) -> Iterator[None]:
    """Compute the whole batch that the wanted samples belong to.

    With none wanted it is the first batch, whose trajectory is kept in any case.

    Returns:
        Steps, each of which puts one of the wanted samples in place, or the trajectory.
    """
    with products(run.precision), memory_checked(run.batch_size):
        steps = _files(run, root, wanted, how=how)
    return _put(run, root, steps)


def make_elsewhere(
    run: Run,
    wanted: list[int],
    *,
    embeddings: Sequence[File],
    how: How,
) -> Iterator[Files]:
    """As `make`, where the results folder is not seen: the files themselves, in their order.

    Args:
        embeddings: what lies in the results folder of the batch's prompts.
    """
    root = _scratch()
    for name, data in embeddings:
        if not (root / name).exists():
            write_whole(root / name, data)
    with products(run.precision), memory_checked(run.batch_size):
        return _files(run, root, wanted, how=how)


@functools.cache
def _scratch() -> Path:
    """A folder of this process, which is removed with it; those of killed ones go now."""
    for other in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(StoreError, OSError):  # one in use, or another user's
            if time.time() - other.stat().st_mtime > NEW:
                with held(other):
                    shutil.rmtree(other)
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(held(folder))
        atexit.register(stack.pop_all().close)
    return folder


def whole(run: Run, wanted: Sequence[int]) -> range:
    """The samples of the batch that the wanted ones belong to; of the first, where none are."""
    first = wanted[0] // run.batch_size * run.batch_size if wanted else 0
    return range(first, first + run.batch_size)


def _put(run: Run, root: Path, steps: Iterator[Files]) -> Iterator[None]:
    store = open_store(root, run)
    for files in steps:
        for name, data in files:
            store.put(name, data)
        yield


def _files(
    run: Run,
    root: Path,
    wanted: list[int],
    *,
    how: How,
) -> Iterator[Files]:
    if run.card.pipeline:
        return _files_of_pipeline(run, root, wanted, how=how)
    dynamic = run.cache.method.DYNAMIC
    model = network(run, device=how.device, weights_path=how.weights_path)
    indices = whole(run, wanted)
    first = indices.start
    reused: list[int] = []  # by a dynamic method, which only a run can tell
    path: list[Tensor] = []  # of the first samples, from the noise to the last step

    def note(session: Session, x: Tensor) -> None:
        if first == 0:
            path.append(_kept(x))
        if dynamic and session.step == len(session.timesteps) - 1:
            reused.extend(step for step, sites in enumerate(session.reused) if sites)

    latents = latents_of(run, indices, model=model, root=root, on_step=note)
    if not torch.isfinite(latents).all():
        raise SkipditError(
            f"{run.model} gave values that are not finite in {run.precision} with {run.cache}",
            fix="take float32, or a milder cache",
        )
    if wanted:
        # the whole batch is decoded, whatever is wanted of it: the same bits again
        pixels = decode.to_pixels(
            latents,
            run.card,
            channel_dim=model.CHANNEL_DIM,
            precision=run.decode_precision,
            offload=bool(how.offload),
        )
    return _encoded(
        run,
        root,
        wanted,
        pixels=pixels if wanted else [],
        reused=reused if dynamic else None,
        states=[*path[1:], _kept(latents)] if path else [],
        used=provenance.device_name(str(latents.device)),
        how=how,
    )


def _files_of_pipeline(run: Run, root: Path, wanted: list[int], *, how: How) -> Iterator[Files]:
    pipe = pipelines.of_run(run, device=how.device, offload=how.offload)
    indices = whole(run, wanted)
    states: list[Tensor] = []  # of the first samples, after every step

    def note(session: Session, x: Tensor) -> None:
        if indices.start == 0:
            states.append(_kept(x.float()))

    pixels, driven = pipelines.pixels_of(run, indices, pipe=pipe, on_step=note)
    return _encoded(
        run,
        root,
        wanted,
        pixels=pixels,
        reused=driven.cached_steps if run.cache.method.DYNAMIC else None,
        states=states,
        used=provenance.device_name(own_device(how.device)),
        how=how,
    )


def _encoded(
    run: Run,
    root: Path,
    wanted: list[int],
    *,
    pixels: "Sequence[np.ndarray] | np.ndarray",
    reused: list[int] | None,
    states: list[Tensor],
    used: str,
    how: How,
) -> Iterator[Files]:
    """The files of a batch.

    Args:
        pixels: of the samples of the whole batch, where any is wanted.
        reused: the steps at which a dynamic method reused.
        states: of the first samples, after every step; [S, values] each.
        used: the device.
    """
    first = whole(run, wanted).start

    def encoded() -> Iterator[Files]:
        store = open_store(root, run)
        for index in wanted:
            sample, content = pixels[index - first], conditioning.meta(run, index)
            if not sample.any():
                content["black"] = True
            if reused is not None:
                content["reused_steps"] = reused
            files = store.files(index, sample, meta=content, device=used, preview=how.previews)
            yield [*files]
        if states:
            yield [trajectory.file(run, torch.stack(states, dim=1).cpu().numpy())]

    return encoded()


def latents_of(
    run: Run,
    indices: Sequence[int],
    *,
    model: Any,
    root: Path,
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> Tensor:
    """Samples of a run before they are decoded, computed together.

    Args:
        model: the network of the run, or its pipeline, on any device.
        root: the results folder, for the embeddings of prompts.
        on_step: as in `denoise`.
    Returns:
        float32 [B, ...] in the model's layout.
    """
    if run.card.pipeline:
        return pipelines.latents_of(run, indices, pipe=model, on_step=on_step)
    shape = model.inputs(1)["hidden_states"].shape[1:]
    where = next(model.parameters()).device
    given, null = conditioning.of_batch(run, indices, root=root, device=str(where))

    streams = [run.stream(index) for index in indices]

    def noise(step: int) -> Tensor:
        drawn = [rng.normal(shape, seed=seed, index=index, step=step) for seed, index in streams]
        return torch.stack(drawn).to(where)

    with products(run.precision):
        return denoise(
            model,
            noise(rng.INITIAL),
            cache=run.cache,
            sampler=run.sampler,
            steps=run.steps,
            step_noise=noise,
            conditions=given,
            null=null,
            guidance=run.guidance,
            trained=run.card.sampling,
            compile=run.compile,
            on_step=on_step,
        )


def _kept(x: Tensor) -> Tensor:
    """What a trajectory keeps of a batch of latents: [S, values]."""
    flat = x[: trajectory.SAMPLES].flatten(1)
    return flat[:, torch.from_numpy(trajectory.places(flat.shape[1])).to(x.device)]


def network(run: Run, *, device: str = "cpu", weights_path: Path | None = None) -> Any:
    """The denoiser of a run, or its pipeline; a process has one at a time."""
    if run.card.pipeline:
        return pipelines.of_run(run, device=device)
    dtype, device = dtype_of(run.precision), own_device(device)
    return loaded.one(
        "denoiser",
        (run.card, run.weights, weights_path, device, dtype),
        lambda: networks.load(run.card, path=weights_path, device=device, dtype=dtype),
    )
