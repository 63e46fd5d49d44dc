"""Samplers against trajectories of the official code, and against diffusers' schedulers.

`golden/diffusion`: `toy_4d` and `toy_5d` sample a formula, `c2i` samples the network of
`golden/c2i` with guidance and with Skip-Cache. The noise of every step is stored.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from safetensors.torch import load_file

from skipdit_cli import registry
from skipdit_cli.checkpoints.official import from_official
from skipdit_cli.generate.loop import denoise
from skipdit_cli.samplers import ddim, ddpm, timesteps
from skipdit_cli.spec import parse_cache

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = ("toy_4d", "toy_5d", "c2i")
CASES = {
    name: json.loads((GOLDEN / "diffusion" / name / "case.json").read_text()) for name in FOLDERS
}
TOYS = [(name, run) for name in FOLDERS[:2] for run in CASES[name]["runs"]]
TIMESTEPS = json.loads((GOLDEN / "diffusion" / "timesteps.json").read_text())
POWER = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))).float()


def toy(x, t, *, channel_dim=1):
    """The formula of `toy_*`: noise and variance as a network would give them."""
    shape = -1, *[1] * (x.dim() - 1)
    a, phase = torch.sqrt(1 - POWER[t]).view(shape), t.view(shape).float() / 100
    return torch.cat([a * x + 0.1 * torch.sin(3 * x + phase), torch.tanh(0.5 * x)], channel_dim)


@pytest.mark.parametrize("steps", TIMESTEPS)
def test_timesteps(steps):
    assert timesteps(steps) == TIMESTEPS[steps]


@pytest.mark.parametrize(("case", "name"), TOYS)
def test_toy_trajectories(case, name):
    run, io = CASES[case]["runs"][name], load_file(GOLDEN / "diffusion" / case / "io.safetensors")
    dim, inputs, outputs, visited = run["channel_dim"], [], [], []

    def formula(x, t):
        inputs.append(x)
        visited.append(int(t[0]))
        assert t.dtype == torch.int64
        assert t.shape == (len(x),)
        outputs.append(toy(x, t, channel_dim=dim))
        return outputs[-1]

    noise = io.get(f"{name}.noise")
    final = registry.load("samplers", run["kind"]).sample(
        formula,
        io[f"{name}.z"],
        steps=run["respacing"],
        step_noise=lambda i: noise[i],
        clip=run["clip_denoised"],
        channel_dim=dim,
    )
    assert visited == run["original_timesteps"]
    torch.testing.assert_close(final, io[f"{name}.final"], atol=5e-5, rtol=0)
    if f"{name}.samples" in io:
        ours = torch.stack([*inputs[1:], final])
        torch.testing.assert_close(ours, io[f"{name}.samples"], atol=5e-5, rtol=0)
    if f"{name}.model_out" in io:
        official = io[f"{name}.model_out"]
        torch.testing.assert_close(torch.stack(outputs), official, atol=5e-5, rtol=0)


@pytest.fixture(scope="module")
def network():
    arguments = json.loads((GOLDEN / "c2i" / "case.json").read_text())["ctor"]
    weights = load_file(GOLDEN / "c2i" / "weights.safetensors")
    return from_official("dit", {**arguments, "skip": True}, weights)


@pytest.fixture(scope="module")
def image_io():
    return load_file(GOLDEN / "diffusion" / "c2i" / "io.safetensors")


def sampled(network, io, name, cache):
    """Our sample of a golden run, the official one, and the input of every step."""
    run, y = CASES["c2i"]["runs"][name], io[f"{name}.y"]
    noise, guided = io.get(f"{name}.noise"), run["cfg_scale"] is not None
    count = len(y) // 2 if guided else len(y)  # the official batch is doubled outside the sampler
    if guided:
        assert y[count:].eq(network.config.num_classes).all()
    inputs = []
    handle = network.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        ours = denoise(
            network,
            io[f"{name}.z"][:count],
            cache=parse_cache(cache).resolve(network.layout()),
            sampler=registry.load("samplers", run["kind"]),
            steps=run["respacing"],
            step_noise=lambda i: noise[i][:count],
            conditions={"class_labels": y[:count]},
            null={"class_labels": torch.full_like(y[:count], network.config.num_classes)},
            guidance=run["cfg_scale"],
        )
    finally:
        handle.remove()
    return ours, io[f"{name}.final"][:count], [x[:count] for x in inputs]


@pytest.mark.parametrize("name", CASES["c2i"]["runs"])
def test_network_trajectories(network, image_io, name):
    """A network of random weights is no denoiser: samples grow to 1e3, so the bound is relative."""
    n = CASES["c2i"]["runs"][name]["deepcache"]
    cache = f"skip-cache(n={n})" if n else "none"
    ours, official, inputs = sampled(network, image_io, name, cache)
    assert (ours - official).abs().max() <= 1e-4 * official.abs().max()
    if f"{name}.samples" in image_io:
        for x, before in zip(inputs[1:], image_io[f"{name}.samples"][:-1], strict=True):
            before = before[: len(x)]
            assert (x - before).abs().max() <= 1e-4 * before.abs().max()


@pytest.mark.parametrize("wrong", ["none", "skip-cache(n=3)", "skip-cache(n=2,branch=5)"])
def test_another_cache_leads_elsewhere(network, image_io, wrong):
    ours, official, _ = sampled(network, image_io, "ddpm50_cache2_cfg4", wrong)
    assert (ours - official).abs().max() > 1e-3 * official.abs().max()


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("steps", [10, 50])
def test_ddpm_is_diffusers_ddpm(steps, learn_sigma, clip):
    """DDPMScheduler, linspace spacing, with its own noise: the same seed draws the same here."""
    scheduler = DDPMScheduler(
        **LINEAR,
        variance_type="learned_range" if learn_sigma else "fixed_large",
        clip_sample=clip,
        timestep_spacing="linspace",
    )
    scheduler.set_timesteps(steps)
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    channels = 8 if learn_sigma else 4

    def network(x, t):
        return toy(x, t)[:, :channels]

    generator, theirs = torch.Generator().manual_seed(2), z
    for t in scheduler.timesteps:
        out = network(theirs, t.expand(len(theirs)))
        theirs = scheduler.step(out, t, theirs, generator=generator).prev_sample
    generator = torch.Generator().manual_seed(2)
    ours = ddpm.sample(
        network,
        z,
        steps=steps,
        step_noise=lambda i: torch.randn(z.shape, generator=generator),
        clip=clip,
        learn_sigma=learn_sigma,
    )
    assert timesteps(steps) == scheduler.timesteps.tolist()
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=0)


LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
# The scheduler_config.json of HunyuanDiT-v1.2-Diffusers, and the same for DDIM.
HUNYUAN = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "clip_sample": False,
}
HUNYUAN_TRAINED = {"betas": ("scaled_linear", 0.00085, 0.02), "prediction": "v_prediction"}


def in_float64(scheduler):
    """diffusers computes its tables in float32, which alone is off by 1e-4 in a sample."""
    config = scheduler.config
    power = {"linear": 1, "scaled_linear": 2}[config.beta_schedule]
    first, last = config.beta_start ** (1 / power), config.beta_end ** (1 / power)
    betas = torch.linspace(first, last, 1000, dtype=torch.float64) ** power
    torch.testing.assert_close(scheduler.betas.double(), betas, atol=1e-8, rtol=1e-6)
    scheduler.betas, scheduler.alphas = betas, 1 - betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    for name in ("one", "final_alpha_cumprod"):
        if hasattr(scheduler, name):
            assert getattr(scheduler, name) == 1
            setattr(scheduler, name, torch.ones((), dtype=torch.float64))
    return scheduler


def velocity(x, t):
    """What a network might predict in a bounded way; float64."""
    phase = t.view(-1, *[1] * (x.dim() - 1)) / 100
    return 0.6 * torch.sin(2 * x + phase) - 0.3 * x


def randoms(seed, *shape):
    """Noise drawn as diffusers draws it: one tensor after another from one generator."""
    generator = torch.Generator().manual_seed(seed)
    return lambda i: torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("count", [50, 25, 1000, 2])
def test_ddpm_of_a_velocity_is_diffusers_ddpm(count, clip):
    """HunyuanDiT's scheduler: the posterior's own variance (fixed_small), timesteps 981 ... 1.

    The variance of the last step is 0, and 1e-20 in diffusers. 1000 steps leave no room for an
    offset.
    """
    offset = 1 if count < 1000 else 0
    config = HUNYUAN | {"steps_offset": offset, "clip_sample": clip}
    scheduler = in_float64(DDPMScheduler(**config))
    assert scheduler.config.variance_type == "fixed_small"
    scheduler.set_timesteps(count)
    generator = torch.Generator().manual_seed(2)
    z = theirs = randoms(1, 2, 4, 4, 4)(0)
    visited, noise = [], randoms(2, *z.shape)
    for t in scheduler.timesteps:
        out = velocity(theirs, t.expand(len(theirs)))
        theirs = scheduler.step(out, t, theirs, generator=generator).prev_sample

    def network(x, t):
        visited.append(int(t[0]))
        assert x.dtype == torch.float64
        return velocity(x, t)

    ours = ddpm.sample(
        network,
        z,
        steps=f"ddim{count}+{offset}",
        step_noise=noise,
        clip=clip,
        learn_sigma=False,
        fixed_large=False,
        **HUNYUAN_TRAINED,
    )
    assert visited == scheduler.timesteps.tolist()
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-10)


def test_ddpm_of_a_velocity_with_the_larger_variance_is_another_sampler():
    scheduler = in_float64(DDPMScheduler(**HUNYUAN, variance_type="fixed_large"))
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(2)
    z = theirs = randoms(1, 2, 4, 4, 4)(0)
    for t in scheduler.timesteps[:-1]:  # at the end theirs adds noise once more, ADM's does not
        out = velocity(theirs, t.expand(len(theirs)))
        theirs = scheduler.step(out, t, theirs, generator=generator).prev_sample
    found = {}
    for fixed_large in (True, False):
        inputs = []

        def network(x, t, inputs=inputs):
            inputs.append(x)
            return velocity(x, t)

        ddpm.sample(
            network,
            z,
            steps="ddim10+1",
            step_noise=randoms(2, *z.shape),
            learn_sigma=False,
            fixed_large=fixed_large,
            **HUNYUAN_TRAINED,
        )
        found[fixed_large] = inputs[-1]
    torch.testing.assert_close(found[True], theirs, atol=1e-10, rtol=1e-10)
    assert (found[False] - theirs).abs().max() > 0.02


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [50, 20])
def test_ddim_of_a_velocity_is_diffusers_ddim(count, eta):
    scheduler = in_float64(DDIMScheduler(**HUNYUAN, set_alpha_to_one=True))
    scheduler.set_timesteps(count)
    generator = torch.Generator().manual_seed(2)
    z = theirs = randoms(1, 2, 4, 4, 4)(0)
    for t in scheduler.timesteps:
        out = velocity(theirs, t.expand(len(theirs)))
        theirs = scheduler.step(out, t, theirs, eta=eta, generator=generator).prev_sample
    steps = f"ddim{count}+1"
    ours = ddim.sample(
        velocity,
        z,
        steps=steps,
        step_noise=randoms(2, *z.shape),
        learn_sigma=False,
        eta=eta,
        **HUNYUAN_TRAINED,
    )
    assert timesteps(steps) == scheduler.timesteps.tolist()
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


def test_the_scaled_schedule_also_carries_noise_predictions():
    """Shape of the schedule and meaning of the output are independent of each other."""
    config = HUNYUAN | {"prediction_type": "epsilon"}
    scheduler = in_float64(DDPMScheduler(**config))
    scheduler.set_timesteps(20)
    generator = torch.Generator().manual_seed(2)
    z = theirs = randoms(1, 2, 4, 4, 4)(0)
    for t in scheduler.timesteps:
        out = velocity(theirs, t.expand(len(theirs)))
        theirs = scheduler.step(out, t, theirs, generator=generator).prev_sample
    ours = ddpm.sample(
        velocity,
        z,
        steps="ddim20+1",
        step_noise=randoms(2, *z.shape),
        learn_sigma=False,
        fixed_large=False,
        betas=HUNYUAN_TRAINED["betas"],
    )
    torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


def diffusers_ddim(z, *, steps, spacing, eta):
    scheduler = DDIMScheduler(
        **LINEAR,
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
        timestep_spacing=spacing,
    )
    scheduler.set_timesteps(steps)
    generator, x = torch.Generator().manual_seed(4), z
    for t in scheduler.timesteps:
        eps, _ = toy(x, t.expand(len(x))).chunk(2, dim=1)
        x = scheduler.step(eps, t, x, eta=eta, generator=generator).prev_sample
    return scheduler.timesteps.tolist(), x


def our_ddim(z, *, steps, eta):
    generator = torch.Generator().manual_seed(4)

    def step_noise(i):
        return torch.randn(z.shape, generator=generator)

    return ddim.sample(toy, z, steps=steps, step_noise=step_noise, eta=eta)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_is_diffusers_ddim_on_its_own_timesteps(eta):
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    visited, theirs = diffusers_ddim(z, steps=50, spacing="leading", eta=eta)
    assert visited == timesteps("ddim50")
    torch.testing.assert_close(our_ddim(z, steps="ddim50", eta=eta), theirs, atol=3e-5, rtol=0)


def test_ddim_is_not_diffusers_ddim_on_evenly_spaced_timesteps():
    """Why the sampler is our own: theirs visits the same timesteps but aims at others."""
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    visited, theirs = diffusers_ddim(z, steps=10, spacing="linspace", eta=0.0)
    assert visited == timesteps("10")
    assert (our_ddim(z, steps="10", eta=0.0) - theirs).abs().max() > 0.02
