"""Run: the only place where model, cache and sampler meet.

A Run is computed in batches of consecutive indices, always whole ones: a sample then depends on its
seed, its index and the batch size alone, whichever process computes it and however often the run
was interrupted.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers.hooks import ModelHook
from torch import Tensor, nn

from skipdit_cli import conditions, decode, registry, rng, trajectory, weights
from skipdit_cli._disk import check_writable
from skipdit_cli.engine import run_batches
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.hooks import Session, attached, with_predictor
from skipdit_cli.samplers._schedule import timesteps as visited
from skipdit_cli.spec import parse_cache
from skipdit_cli.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.plan import Run


def replay(
    model: nn.Module,
    cache: str | None,
    timesteps: Sequence[int] | Tensor,
    inputs: Sequence[Tensor] | Tensor,
    *,
    guidance: float | None = None,
    **conditions: Tensor,
) -> list[Tensor]:
    """The model over given inputs and timesteps, called as a sampler would call it.

    Args:
        cache: a spec such as `skip-cache(n=2)`, or None.
        timesteps: original timesteps 0..999, one per step.
        inputs: one batch per step, in the family's layout.
        guidance: scale of classifier-free guidance on a [conditional; null] batch, or None.
        conditions: by diffusers' names, the same for every step (`class_labels`; texts, masks and
            `image_rotary_emb` of the text models).
    Returns:
        The model's output of every step.
    """
    steps = [int(t) for t in timesteps]
    outputs = []
    on = attached(model, parse_cache(cache or "none"), steps, guided=guidance is not None)
    with torch.no_grad(), on as session:
        for step, (t, x) in enumerate(zip(steps, inputs, strict=True)):
            session.begin(step)
            t_batch = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
            if guidance is None:
                outputs.append(model(x, t_batch, **conditions, return_dict=False)[0])
            else:
                outputs.append(
                    guided(
                        model,
                        x[: len(x) // 2],
                        t_batch,
                        guidance=guidance,
                        null_alone=session.unguided[step],
                        predictor=session.predictor,
                        **conditions,
                    )
                )
    return outputs


def guided(
    model: nn.Module,
    x: Tensor,
    timestep: Tensor,
    *,
    guidance: float,
    null_alone: bool = False,
    predictor: ModelHook | None = None,
    **conditions: Tensor,
) -> Tensor:
    """Classifier-free guidance in one call of the doubled batch.

    Args:
        x: the B inputs; the model sees them twice.
        timestep: [2B].
        conditions: of the conditional half, then of the null half ([2B, ...]).
        null_alone: compute the null half alone, without guidance (T-GATE after its gate).
        predictor: diffusers' hook that predicts the null half (FasterCache).
    Returns:
        [2B, ...] in the model's layout: the guided channels are the same in both halves, the
        others (the variance, and for class-to-image the fourth latent channel) those of each half.
    """
    if null_alone:
        null = {key: value[len(x) :] for key, value in conditions.items()}
        return model(x, timestep[len(x) :], **null, return_dict=False)[0].repeat(
            2, *[1] * (x.dim() - 1)
        )
    if predictor is None:
        out = model(torch.cat([x, x]), timestep, **conditions, return_dict=False)[0]
    else:
        both = {"hidden_states": torch.cat([x, x]), "timestep": timestep, **conditions}
        out = with_predictor(model, predictor, both)
    channel = model.CHANNEL_DIM
    guided_channels = min(model.GUIDED_CHANNELS, x.shape[channel])
    eps, rest = out.split([guided_channels, out.shape[channel] - guided_channels], dim=channel)
    conditional, null = eps.chunk(2)
    eps = null + guidance * (conditional - null)
    return torch.cat([torch.cat([eps, eps]), rest], dim=channel)


def denoise(
    model: nn.Module,
    x: Tensor,
    *,
    cache: str,
    sampler: str,
    steps: str,
    step_noise: Callable[[int], Tensor],
    conditions: Mapping[str, Tensor] | None = None,
    null: Mapping[str, Tensor] | None = None,
    guidance: float | None = None,
    trained: weights.Sampling | None = None,
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> Tensor:
    """The denoising loop: noise in, sample out, in the model's layout.

    Args:
        x: float32 standard normal, [B, ...], on the model's device.
        step_noise: i -> noise of step i, like x.
        conditions: by diffusers' names, [B, ...] each; none for an unconditional model.
        null: the same for the null half of guidance.
        guidance: scale, or None for no guidance.
        trained: noise schedule and meaning of the output; by default those of DiT and Latte.
        on_step: called after every call of the model with the session of the cache and the latents
            that the model was given.
    """
    if guidance is not None and not null:
        raise UsageError(
            f"guidance {guidance} needs conditions and the model is unconditional",
            place="guidance",
            fix="leave it out",
        )
    trained = trained or weights.Sampling(sampler, steps)
    dtype = next(model.parameters()).dtype
    given = dict(conditions or {})
    if guidance is not None and null:
        given = {key: torch.cat([value, null[key]]) for key, value in given.items()}
    step = count()

    def call(x: Tensor, t: Tensor) -> Tensor:
        session.begin(next(step))
        if guidance is None:
            out = model(x.to(dtype), t, **given, return_dict=False)[0]
        else:
            out = guided(
                model,
                x.to(dtype),
                torch.cat([t, t]),
                guidance=guidance,
                null_alone=session.unguided[session.step],
                predictor=session.predictor,
                **given,
            )[: len(x)]
        if on_step:
            on_step(session, x)
        if not trained.learned_variance:
            out = out.narrow(model.CHANNEL_DIM, 0, x.shape[model.CHANNEL_DIM])
        return out.float()

    chosen = registry.load("samplers", sampler)
    on = attached(model, parse_cache(cache), visited(steps), guided=guidance is not None)
    with torch.no_grad(), on as session:
        return chosen.sample(
            call,
            x,
            steps=steps,
            step_noise=step_noise,
            learn_sigma=trained.learned_variance and model.config.get("learn_sigma", True),
            channel_dim=model.CHANNEL_DIM,
            betas=trained.betas,
            prediction=trained.prediction,
            fixed_large=trained.learned_variance,
        )


def generate(
    run: "Run",
    root: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    weights_path: Path | None = None,
    offload: bool = False,
    on_batch: Callable[[int, int], None] | None = None,
) -> Store:
    """Compute what a Run still lacks.

    Args:
        root: results folder.
        offload: keep the autoencoder off the GPU while samples are denoised.
        weights_path: a checkpoint file instead of the known place.
        on_batch: called with (samples finished, samples wanted) at the start and after each batch.
    Returns:
        The complete store. Damaged samples that were redone are in its `corrupt`.
    Raises:
        MissingAssetError: the weights are not here.
        StoreError: the disk, or another process on the same run.
    """
    weights.require(run.model, path=weights_path)
    if run.weights not in ("", found := weights.fingerprint(run.model, path=weights_path)):
        raise UsageError(
            f"run {run.key} is of the weights {run.weights} and these are {found}",
            place=str(weights_path or run.model),
            fix="plan the run again with this file",
        )
    check_writable(root)
    store = open_store(root, run)
    with store.lock():
        missing = store.missing(range(run.num_samples))
        corrupt = list(store.corrupt)
        batches: dict[int, list[int]] = {}
        if trajectory.read_trajectory(store) is None:
            batches[0] = []  # computed again, though none of its samples may be missing
        for index in missing:
            batches.setdefault(index // run.batch_size, []).append(index)
        done = run.num_samples - len(missing)
        if on_batch:
            on_batch(done, run.num_samples)
        if batches:
            conditions.prepare(run, root, device=device)

        def finished(batch: list[int]) -> None:
            nonlocal done
            done += len(batch)
            if on_batch:
                on_batch(done, run.num_samples)

        work = partial(_compute, run, root, device, weights_path, offload)
        run_batches(work, list(batches.values()), workers=workers, on_done=finished)
        store.require(run.num_samples)
        store.corrupt = corrupt
    return store


def latents_of(
    run: "Run",
    indices: Sequence[int],
    *,
    model: nn.Module,
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
    given, null = conditions.of_batch(run, indices, root=root, device=str(where))

    def noise(step: int) -> Tensor:
        return rng.batch_normal(shape, seed=run.seed, indices=indices, step=step).to(where)

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
        trained=weights.card(run.model).sampling,
        on_step=on_step,
    )


def _compute(
    run: "Run",
    root: Path,
    device: str,
    weights_path: Path | None,
    offload: bool,
    wanted: list[int],
) -> None:
    """Compute the whole batch that the wanted samples belong to, and store the wanted ones.

    With none wanted it is the first batch, whose trajectory is kept in any case.
    """
    card, cache = weights.card(run.model), parse_cache(run.cache)
    model = _model(run.model, weights_path, _device(device), run.dtype)
    first = wanted[0] // run.batch_size * run.batch_size if wanted else 0
    reused: list[int] = []  # by a dynamic method, which only a run can tell
    path: list[Tensor] = []  # of the first samples, from the noise to the last step

    def note(session: Session, x: Tensor) -> None:
        if first == 0:
            path.append(_kept(x))
        if cache.dynamic and session.step == len(session.timesteps) - 1:
            reused.extend(step for step, sites in enumerate(session.reused) if sites)

    indices = range(first, first + run.batch_size)
    latents = latents_of(run, indices, model=model, root=root, on_step=note)
    if not torch.isfinite(latents).all():
        raise SkipditError(
            f"{run.model} gave values that are not finite in {run.dtype} with {run.cache}",
            fix="take float32, or a milder cache",
        )
    store = open_store(root, run)
    if wanted:
        # the whole batch is decoded, whatever is wanted of it: the same bits again
        pixels = decode.to_pixels(latents, card, channel_dim=model.CHANNEL_DIM, offload=offload)
    for index in wanted:
        sample, content = pixels[index - first], conditions.meta(run, index)
        if not sample.any():
            content["black"] = True
        if cache.dynamic:
            content["reused_steps"] = reused
        store.write(index, sample, meta=content, device=latents.device.type)
    if path:
        states = torch.stack([*path[1:], _kept(latents)], dim=1)
        trajectory.write_trajectory(store, states.cpu().numpy(), timesteps=visited(run.steps))


def _kept(x: Tensor) -> Tensor:
    """What a trajectory keeps of a batch of latents: [S, values]."""
    flat = x[: trajectory.SAMPLES].flatten(1)
    return flat[:, torch.from_numpy(trajectory.places(flat.shape[1])).to(x.device)]


def loop(
    run: "Run",
    *,
    device: str = "cpu",
    weights_path: Path | None = None,
    random_weights: bool = False,
) -> Callable[..., None]:
    """The denoising loop of a run's first batch, as a function of the cache spec, for timing.

    Nothing is decoded or written, and the noise of the steps is drawn beforehand. Classes and texts
    are zeros: a dynamic method, which looks at features, may reuse more or less than in a run. With
    `brief=True` the loop ends at the first full step that follows another kind of step: long enough
    to hold everything in memory that a whole loop does.
    """
    if random_weights:
        model = weights.build(weights.card(run.model), device=device)
        model = nn.Module.to(model, getattr(torch, run.dtype)).requires_grad_(False).eval()
    else:
        model = _model(run.model, weights_path, device, run.dtype)
    given = model.inputs(run.batch_size, device=device)  # texts and classes cost what any do
    shape = given.pop("hidden_states").shape[1:]
    del given["timestep"]
    x, noise = (
        rng.batch_normal(shape, seed=run.seed, indices=range(run.batch_size), step=step).to(device)
        for step in (rng.INITIAL, 0)
    )

    def stop(session: Session, x: Tensor) -> None:
        here, before = session.reused[session.step], session.reused[session.step - 1]
        if session.step and not here and (before or session.cache.name == "none"):
            raise _Enough

    def body(cache: str, *, brief: bool = False) -> None:
        with suppress(_Enough):
            denoise(
                model,
                x,
                cache=cache,
                sampler=run.sampler,
                steps=run.steps,
                step_noise=lambda step: noise,
                conditions=given,
                null=given,
                guidance=run.guidance,
                trained=weights.card(run.model).sampling,
                on_step=stop if brief else None,
            )

    return body


class _Enough(Exception):
    """Ends a loop early."""


def _device(name: str) -> str:
    """`cuda` in a worker process is one GPU of several, in turn."""
    from multiprocessing import current_process

    if name == "cuda" and (identity := current_process()._identity):
        return f"cuda:{(identity[-1] - 1) % torch.cuda.device_count()}"
    return name


@cache
def _model(name: str, path: Path | None, device: str, dtype: str) -> nn.Module:
    return weights.load(name, path=path, device=device, dtype=dtype)
