"""A network that is a family here and a diffusers pipeline as well: caches do the same on both."""

import pytest
import torch

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.checkpoints.denoiser import Blocks, paths
from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.generate.driven import drive
from skipdit_cli.generate.hooks import attached
from skipdit_cli.models.hunyuan_dit import rope
from skipdit_cli.spec import parse_cache

TIMES = (999, 800, 600, 400, 200, 1)


@pytest.mark.parametrize(
    "spec",
    [
        "skip-cache(n=2,window=950-50,branch=1,order=0)",
        "skip-cache(n=3,window=1000-0,branch=2,order=1)",
        "fora(n=2)",
        "delta-dit(n=2,part=middle,layers=4)",
    ],
)
def test_hunyuan_dit(spec):
    from diffusers import HunyuanDiT2DModel

    ours = networks.load(catalog.card("painted-digits"))
    config = {name: value for name, value in ours.config.items() if not name.startswith("_")}
    theirs = HunyuanDiT2DModel(**config)
    theirs.load_state_dict(ours.state_dict())
    theirs.eval()
    given = ours.inputs(2)
    generator = torch.Generator().manual_seed(0)
    for name, value in given.items():
        if value.is_floating_point():
            given[name] = torch.randn(value.shape, generator=generator)
    del given["timestep"]
    given["image_rotary_emb"] = rope(4, 4, ours.config["attention_head_dim"], base=16)
    noise = [torch.randn(given.pop("hidden_states").shape, generator=generator)]
    noise += [torch.randn(noise[0].shape, generator=generator) for _ in TIMES[1:]]

    def call(model, step):
        t = torch.full((2,), float(TIMES[step]))
        x = sum(noise[: step + 1]) / (step + 1)
        return model(x, t, **given, return_dict=False)[0]

    expected = []
    cache = parse_cache(spec).resolve(ours.layout())
    with torch.no_grad(), attached(ours, cache, TIMES) as session:
        for step in range(len(TIMES)):
            session.begin(step)
            expected.append(call(ours, step))
        reused = session.reused
    blocks = Blocks(theirs, paths(theirs), ours.layout().skips)
    assert (blocks.layout.layers, blocks.layout.kinds) == (8, ours.layout().kinds)

    class Scheduler:
        def step(self, output, timestep, x):
            return (output,)

    class Pipe:
        scheduler = Scheduler()

        def set_progress_bar_config(self, **_):
            pass

        def __call__(self):
            outputs = []
            for step in range(len(TIMES)):
                outputs.append(call(theirs, step))
                self.scheduler.step(outputs[-1], TIMES[step], None)
            return [outputs]

    plan = Traced(
        timesteps=TIMES,
        sigmas=tuple(t / 1000 for t in TIMES),
        flow=True,
        turns=(0,) * 6,
        samples=(1,) * 6,
        calls=(1,) * 6,
        order=tuple(paths(theirs)),
        skips=blocks.layout.skips,
        steady=True,
        output=(),
        decoding=0,
        given=(),
    )
    found, driven = drive(Pipe(), [theirs], parse_cache(spec).resolve(blocks.layout), plan)
    assert [step for step, sites in enumerate(reused) if sites] == driven.cached_steps != []
    for own, other in zip(expected, found, strict=True):
        assert torch.allclose(own, other, atol=1e-5)
