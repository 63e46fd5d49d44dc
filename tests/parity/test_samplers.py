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
from skipdit_cli.run import denoise
from skipdit_cli.samplers import _schedule, ddim, ddpm
from skipdit_cli.weights import from_official

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
    assert _schedule.timesteps(steps) == TIMESTEPS[steps]


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
            cache=cache,
            sampler=run["kind"],
            steps=run["respacing"],
            step_noise=lambda i: noise[i][:count],
            labels=y[:count],
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
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
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
    assert _schedule.timesteps(steps) == scheduler.timesteps.tolist()
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=0)


def diffusers_ddim(z, *, steps, spacing, eta):
    scheduler = DDIMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
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
    assert visited == _schedule.timesteps("ddim50")
    torch.testing.assert_close(our_ddim(z, steps="ddim50", eta=eta), theirs, atol=3e-5, rtol=0)


def test_ddim_is_not_diffusers_ddim_on_evenly_spaced_timesteps():
    """Why the sampler is our own: theirs visits the same timesteps but aims at others."""
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    visited, theirs = diffusers_ddim(z, steps=10, spacing="linspace", eta=0.0)
    assert visited == _schedule.timesteps("10")
    assert (our_ddim(z, steps="10", eta=0.0) - theirs).abs().max() > 0.02
