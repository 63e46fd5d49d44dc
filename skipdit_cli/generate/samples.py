"""Generate: the samples of a Run, computed and stored.

A Run is computed in batches of consecutive indices, always whole ones: a sample then depends on its
seed, its index and the batch size alone, whichever process computes it and however often the run
was interrupted.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skipdit_cli.checkpoints import local, networks
from skipdit_cli.errors import SkipditError, UsageError, warn
from skipdit_cli.generate import conditioning, decode, loaded, memory, rng
from skipdit_cli.generate.engine import own_device, run_batches
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.loop import denoise
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Stage, silent
from skipdit_cli.precision import dtype_of, products
from skipdit_cli.run import Run
from skipdit_cli.storage import provenance, trajectory
from skipdit_cli.storage.disk import check_writable
from skipdit_cli.storage.store import Store, open_store

if TYPE_CHECKING:
    import numpy as np

    from skipdit_cli.models import Network

ENCODED = "take a precision of 16 bits, or a GPU with more memory: what is encoded is kept"


def generate(
    run: Run,
    root: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    weights_path: Path | None = None,
    offload: bool = False,
    previews: bool = True,
    stage: Stage = silent,
    wait: bool = False,
) -> Store:
    """Encode the prompts of a Run, if it has any, and compute the samples that it still lacks.

    Args:
        root: results folder.
        offload: keep the autoencoder off the GPU while samples are denoised.
        previews: make an mp4 of every clip, to look at.
        weights_path: a checkpoint file instead of the known place.
        stage: opens a progress display: of prompts that are encoded, of samples that are finished.
        wait: for another process that works on the run, which is an error otherwise.
    Returns:
        The complete store.
    Raises:
        MissingAssetError: the weights are not here.
        StoreError: the disk, or another process on the same run.
    """
    local.require(run.card, path=weights_path)
    if run.weights not in ("", here := local.fingerprint(run.card, path=weights_path)):
        raise UsageError(
            f"run {run.key} is of the weights {run.weights} and these are {here}",
            place=str(weights_path or run.model),
            fix="plan the run again with this file",
        )
    memory.require(run, device=device, workers=workers)
    check_writable(root)
    store = open_store(root, run)
    with products(run.precision), store.lock(stage if wait else None):
        missing = store.missing(range(run.num_samples))
        if corrupt := list(store.corrupt):
            warn(
                f"{len(corrupt)} of {run.num_samples} samples are damaged, first {corrupt[0]}",
                place=str(store.path),
                fix="they are made again",
            )
        batches: dict[int, list[int]] = {}
        if trajectory.read_trajectory(store) is None:
            batches[0] = []  # computed again, though none of its samples may be missing
        for index in missing:
            batches.setdefault(index // run.batch_size, []).append(index)
        done = run.num_samples - len(missing)
        if batches:
            pending = conditioning.pending(run, root)
            encoding = stage(f"encoding the prompts of {run.model}") if pending else nullcontext()
            if pending:
                loaded.release()  # a text encoder may be larger than the denoiser
            with encoding as update, memory.told("while prompts are encoded", fix=ENCODED):
                conditioning.prepare(run, root, device=device, progress=update)
        if workers > 1:
            loaded.release()  # the workers have their own, on the same GPUs
        work = functools.partial(
            _compute,
            run,
            root,
            device=device,
            weights_path=weights_path,
            offload=offload,
            previews=previews,
        )
        showing = stage(f"sampling {run.model}, {run.cache.short}")
        with showing as update, memory_checked(run.batch_size):
            update(done, run.num_samples)

            def finished(batch: list[int]) -> None:
                nonlocal done
                done += len(batch)
                update(done, run.num_samples)

            run_batches(work, list(batches.values()), workers=workers, on_done=finished)
        store.require(run.num_samples)
    return store


def latents_of(
    run: Run,
    indices: Sequence[int],
    *,
    model: "Network",
    root: Path,
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> Tensor:
    """Samples of a run before they are decoded, computed together.

    Args:
        model: the network of the run, on any device.
        root: the results folder, for the embeddings of prompts.
        on_step: as in `denoise`.
    Returns:
        float32 [B, ...] in the model's layout.
    """
    shape = model.inputs(1)["hidden_states"].shape[1:]
    where = next(model.parameters()).device
    given, null = conditioning.of_batch(run, indices, root=root, device=str(where))

    def noise(step: int) -> Tensor:
        return rng.batch_normal(shape, seed=run.seed, indices=indices, step=step).to(where)

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


def _compute(
    run: Run,
    root: Path,
    wanted: list[int],
    *,
    device: str,
    weights_path: Path | None,
    offload: bool,
    previews: bool,
) -> Iterator[None]:
    """Compute the whole batch that the wanted samples belong to.

    With none wanted it is the first batch, whose trajectory is kept in any case.

    Returns:
        Steps, each of which stores one of the wanted samples, and then the trajectory.
    """
    dynamic = run.cache.method.DYNAMIC
    model = network(run, device=device, weights_path=weights_path)
    first = wanted[0] // run.batch_size * run.batch_size if wanted else 0
    reused: list[int] = []  # by a dynamic method, which only a run can tell
    path: list[Tensor] = []  # of the first samples, from the noise to the last step

    def note(session: Session, x: Tensor) -> None:
        if first == 0:
            path.append(_kept(x))
        if dynamic and session.step == len(session.timesteps) - 1:
            reused.extend(step for step, sites in enumerate(session.reused) if sites)

    indices = range(first, first + run.batch_size)
    latents = latents_of(run, indices, model=model, root=root, on_step=note)
    if not torch.isfinite(latents).all():
        raise SkipditError(
            f"{run.model} gave values that are not finite in {run.precision} with {run.cache}",
            fix="take float32, or a milder cache",
        )
    made = {}
    if wanted:
        # the whole batch is decoded, whatever is wanted of it: the same bits again
        pixels = decode.to_pixels(
            latents,
            run.card,
            channel_dim=model.CHANNEL_DIM,
            precision=run.decode_precision,
            offload=offload,
        )
    for index in wanted:
        sample, content = pixels[index - first], conditioning.meta(run, index)
        if not sample.any():
            content["black"] = True
        if dynamic:
            content["reused_steps"] = reused
        made[index] = sample, content
    states = torch.stack([*path[1:], _kept(latents)], dim=1).cpu().numpy() if path else None
    return _stored(
        open_store(root, run),
        made,
        states,
        device=provenance.device_name(str(latents.device)),
        previews=previews,
    )


def _stored(
    store: Store,
    made: dict[int, tuple["np.ndarray", dict[str, Any]]],
    states: "np.ndarray | None",
    *,
    device: str,
    previews: bool,
) -> Iterator[None]:
    """Store samples and what they show, a step each, and then the trajectory."""
    for index, (sample, content) in made.items():
        store.write(index, sample, meta=content, device=device, preview=previews)
        yield
    if states is not None:
        trajectory.write_trajectory(store, states, timesteps=store.run.timesteps)
        yield


def _kept(x: Tensor) -> Tensor:
    """What a trajectory keeps of a batch of latents: [S, values]."""
    flat = x[: trajectory.SAMPLES].flatten(1)
    return flat[:, torch.from_numpy(trajectory.places(flat.shape[1])).to(x.device)]


def network(run: Run, *, device: str = "cpu", weights_path: Path | None = None) -> "Network":
    """The denoiser of a run; a process has one at a time."""
    dtype, device = dtype_of(run.precision), own_device(device)
    return loaded.one(
        "denoiser",
        (run.card, weights_path, device, dtype),
        lambda: networks.load(run.card, path=weights_path, device=device, dtype=dtype),
    )
