"""The denoising loop: model, cache and sampler meet here, and nowhere else.

Guidance is one call of the doubled batch, so that a cache that stands on a network sees both halves
at once; what a method does to guidance is in its file (`guide`).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skipdit_cli.cache import Cache
from skipdit_cli.checkpoints.card import Sampling
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate.compiling import compiled
from skipdit_cli.generate.hooks import Session, attached
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL_FIRST, site_modules

if TYPE_CHECKING:
    from skipdit_cli.models import Network
    from skipdit_cli.samplers import Sampler


def replay(
    model: "Network",
    cache: Cache,
    timesteps: Sequence[int] | Tensor,
    inputs: Sequence[Tensor] | Tensor,
    *,
    guidance: float | None = None,
    conditions: Mapping[str, Tensor] | None = None,
) -> list[Tensor]:
    """The model over given inputs and timesteps, called as a sampler would call it.

    Args:
        cache: resolved on the model's layout.
        timesteps: training timesteps 0 to 999, one per step.
        inputs: one batch per step, in the family's layout; with guidance [conditional; null], of
            which the conditional half is taken.
        guidance: scale of classifier-free guidance, or None.
        conditions: by diffusers' names, the same for every step (`class_labels`; texts, masks and
            `image_rotary_emb` of the text models); of both halves with guidance.
    Returns:
        The model's output of every step, of both halves with guidance.
    """
    steps, given = [int(t) for t in timesteps], dict(conditions or {})
    outputs = []
    part = parts(given)
    with torch.no_grad(), attached(model, cache, steps, guided=guidance is not None) as session:
        for step, (t, x) in enumerate(zip(steps, inputs, strict=True)):
            session.begin(step)
            t_batch = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
            if guidance is None:
                outputs.append(model(x, t_batch, **given, return_dict=False)[0])
            else:
                half, single = x[: len(x) // 2], t_batch[: len(x) // 2]
                outputs.append(guided(model, half, single, session, guidance, part=part))
    return outputs


def guided(
    model: "Network",
    x: Tensor,
    timestep: Tensor,
    session: Session,
    guidance: float,
    *,
    part: Callable[[str], Mapping[str, Tensor]],
) -> Tensor:
    """Classifier-free guidance in one call of the doubled batch, or as the cache's method has it.

    Args:
        x: what is denoised, [B, ...]; the model sees it twice.
        timestep: [B].
        session: of the cache on the model.
        guidance: scale.
        part: halves -> the conditions of these, as `parts` gives them.
    Returns:
        [2B, ...] in the model's layout: the guided channels are the same in both halves, the
        others (the variance, and for class-to-image the fourth latent channel) those of each half.
    """

    def compute(halves: str) -> Tensor:
        given = part(halves)
        if halves in (BOTH, NULL_FIRST):
            return model(torch.cat([x, x]), timestep.repeat(2), **given, return_dict=False)[0]
        return model(x, timestep, **given, return_dict=False)[0]

    channel = model.CHANNEL_DIM
    out = session.guide(x, compute, channel_dim=channel)
    guided_channels = min(model.GUIDED_CHANNELS, x.shape[channel])
    eps, rest = out.split([guided_channels, out.shape[channel] - guided_channels], dim=channel)
    conditional, null = eps.chunk(2)
    eps = null + guidance * (conditional - null)
    return torch.cat([torch.cat([eps, eps]), rest], dim=channel)


def parts(conditions: Mapping[str, Tensor]) -> Callable[[str], Mapping[str, Tensor]]:
    """halves -> the conditions of these, put together once.

    Args:
        conditions: of the conditional half, then of the null half ([2B, ...]).
    """

    @functools.cache
    def part(halves: str) -> Mapping[str, Tensor]:
        if halves == BOTH:
            return conditions
        if halves == NULL_FIRST:
            return {key: swapped(value) for key, value in conditions.items()}
        index = 0 if halves == CONDITIONAL else 1
        return {key: value.chunk(2)[index] for key, value in conditions.items()}

    return part


def swapped(x: Tensor) -> Tensor:
    """The halves of a batch in the other order."""
    return torch.cat(x.chunk(2)[::-1])


def denoise(
    model: "Network",
    x: Tensor,
    *,
    cache: Cache,
    sampler: "Sampler",
    steps: str,
    step_noise: Callable[[int], Tensor],
    conditions: Mapping[str, Tensor] | None = None,
    null: Mapping[str, Tensor] | None = None,
    guidance: float | None = None,
    trained: Sampling | None = None,
    compile: bool = False,
    on_step: Callable[[Session, Tensor], None] | None = None,
) -> Tensor:
    """The denoising loop: noise in, sample out, in the model's layout.

    Args:
        x: float32 standard normal, [B, ...], on the model's device.
        cache: resolved on the model's layout.
        sampler: what `registry.load` gives.
        steps: as the sampler's `timesteps` reads it.
        step_noise: i -> noise of step i, like x.
        conditions: by diffusers' names, [B, ...] each; none for an unconditional model.
        null: the same for the null half of guidance.
        guidance: scale, or None for no guidance.
        trained: noise schedule and meaning of the output; by default those of DiT and Latte.
        compile: whether the layers are compiled, which takes its time at their first call.
        on_step: called after every call of the model with the session of the cache and the latents
            that the model was given.
    Raises:
        SkipditError: the sampler visits other timesteps than it announces.
    """
    if guidance is not None and not null:
        raise UsageError(
            f"guidance {guidance} needs conditions and the model is unconditional",
            place="guidance",
            fix="leave it out",
        )
    trained = trained or Sampling(sampler.name, steps)
    dtype = next(model.parameters()).dtype
    given = dict(conditions or {})
    if guidance is not None and null:
        given = {key: torch.cat([value, null[key]]) for key, value in given.items()}
    part = parts(given)
    planned, visited = sampler.timesteps(steps), list[Tensor]()

    def call(x: Tensor, t: Tensor) -> Tensor:
        if len(visited) == len(planned):
            raise _strays(sampler, f"takes more steps than the {len(planned)} that it announces")
        visited.append(t[0])  # read in the end: on a GPU, to read is to wait for it
        session.begin(len(visited) - 1)
        if guidance is None:
            out = model(x.to(dtype), t, **given, return_dict=False)[0]
        else:
            out = guided(model, x.to(dtype), t, session, guidance, part=part)[: len(x)]
        if on_step:
            on_step(session, x)
        if not trained.learned_variance:
            out = out.narrow(model.CHANNEL_DIM, 0, x.shape[model.CHANNEL_DIM])
        return out.float()

    faster = compiled(site_modules(model), cache.hooked) if compile else nullcontext()
    on = attached(model, cache, planned, guided=guidance is not None, betas=trained.betas)
    with torch.no_grad(), faster, on as session:
        sample = sampler.sample(
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
    for step, t in enumerate(map(int, torch.stack(visited).tolist() if visited else ())):
        if t != planned[step]:
            problem = f"visits timestep {t} at step {step} and announces {planned[step]}"
            raise _strays(sampler, problem)
    if len(visited) < len(planned):
        raise _strays(sampler, f"ends after {len(visited)} steps and announces {len(planned)}")
    return sample


def _strays(sampler: "Sampler", problem: str) -> SkipditError:
    """The error of a sampler that does not do what caches and `plan` were told."""
    return SkipditError(
        problem, place=f"sampler {sampler.name}", fix="let its `timesteps` say what it visits"
    )
