"""A pipeline of three blocks that can be computed by hand: what caches make of it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from skipdit_cli.checkpoints.denoiser import Blocks, Packing, Stream
from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate.driven import drive
from skipdit_cli.spec import parse_cache

ORDER = ("transformer_blocks.0", "transformer_blocks.1", "transformer_blocks.2")
STEPS = 4


class Mlp(nn.Module):
    """Ten times what it is given, and the number of the step."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, hidden_states):
        return 10 * hidden_states + self.clock.step


class Block(nn.Module):
    """Adds its MLP."""

    def __init__(self, clock):
        super().__init__()
        self.ff = Mlp(clock)

    def forward(self, hidden_states, encoder_hidden_states=None):
        return hidden_states + self.ff(hidden_states)


class Transformer(nn.Module):
    """Three such blocks."""

    def __init__(self, clock):
        super().__init__()
        self.transformer_blocks = nn.ModuleList(Block(clock) for _ in range(3))

    def forward(self, hidden_states):
        for block in self.transformer_blocks:
            hidden_states = block(hidden_states)
        return hidden_states


class Scheduler:
    def step(self, output, timestep, x):
        return (output,)


class Pipe:
    """Calls its transformer at every step, on the number of the step and 1."""

    def __init__(self, *, calls=1, steps=STEPS):
        self.clock, self.calls, self.steps = SimpleNamespace(step=0), calls, steps
        self.transformer = Transformer(self.clock)
        self.scheduler = Scheduler()
        self.outputs = []

    def set_progress_bar_config(self, **_):
        pass

    def __call__(self):
        for step in range(self.steps):
            self.clock.step = step
            for call in range(self.calls):
                x = torch.full((1, 1, 1), float(step + 1 + 100 * call))
                self.outputs.append(self.transformer(hidden_states=x).item())
            self.scheduler.step(None, step, x)
        return [self.outputs]


def traced(steps=STEPS, turns=None):
    shape = (1, 1, 3)
    times = tuple(range(1000, 1000 - 100 * steps, -100))
    return Traced(
        timesteps=times,
        sigmas=tuple(t / 1000 for t in times),
        flow=True,
        turns=turns or (0,) * steps,
        samples=(1,) * steps,
        calls=(1,) * steps,
        order=ORDER,
        skips=(),
        steady=True,
        output=shape,
        decoding=0,
        given=shape,
    )


def outputs(spec, pipe=None, plan=None):
    pipe = pipe or Pipe()
    cache = parse_cache(spec).resolve(Blocks(pipe.transformer, ORDER).layout)
    given, driven = drive(pipe, [pipe.transformer], cache, plan or traced())
    return given, driven


def block(x, step, kept=None):
    """A block by hand: its MLP as of this step, or what was kept of it."""
    return x + (10 * x + step if kept is None else kept)


def full(x, step):
    """All blocks at a step, and what their MLPs gave."""
    gave = []
    for _ in range(3):
        gave.append(10 * x + step)
        x += gave[-1]
    return x, gave


def test_without_a_cache():
    assert outputs("none")[0] == [full(step + 1, step)[0] for step in range(STEPS)]


@pytest.mark.parametrize(
    ("spec", "steady"),
    [
        *(("none", True), ("none", False), ("fora(n=2)", True), ("fora(n=2)", False)),
        *(("delta-dit(n=2)", True), ("taylorseer(n=2)", True)),
    ],
)
def test_blocks_are_compiled_inside_of_the_hooks(monkeypatch, spec, steady):
    """Each once, or what a cache acts on in it; also where hidden states change their shape."""
    seen = []
    compiler = lambda forward, **_: seen.append(forward.__self__) or forward
    monkeypatch.setattr(torch, "compile", compiler)
    pipe, plan = Pipe(), replace(traced(), steady=steady)
    cache = parse_cache(spec).resolve(Blocks(pipe.transformer, ORDER, steady=steady).layout)
    given, _ = drive(pipe, [pipe.transformer], cache, plan, compile=True)
    blocks = [*pipe.transformer.transformer_blocks]
    inside = spec.startswith(("fora", "taylorseer"))
    parts = [block.ff for block in blocks] if inside else blocks
    assert {*seen} == {*parts}
    assert len(seen) == len(parts)
    assert given == outputs(spec)[0]
    assert not [each for each in pipe.transformer.modules() if "forward" in vars(each)]


def test_fora_adds_what_mlps_gave_on_the_last_full_step():
    """The last step is full, and every second one before it, and the first."""
    given, driven = outputs("fora(n=2)")
    expected = []
    for step in range(STEPS):
        if step in (0, 1, 3):
            x, gave = full(step + 1, step)
        else:
            x = step + 1 + sum(gave)
        expected.append(x)
    assert given == expected
    assert driven.cached_steps == [2]


def test_delta_dit_adds_what_its_layers_added_on_the_last_full_step():
    """Of the front two layers; the last one is computed at every step."""
    given, driven = outputs("delta-dit(n=2,part=front,layers=2)")
    expected = []
    for step in range(STEPS):
        x = step + 1
        if step % 2 == 0:
            after = block(block(x, step), step)
            change = after - x
        expected.append(block(x + change, step))
    assert given == expected
    assert driven.cached_steps == [1, 3]


def test_every_call_of_a_step_keeps_its_own():
    given, _ = outputs("fora(n=2)", Pipe(calls=2))
    for call in (0, 1):
        of_call = given[call::2]
        x, gave = full(2 + 100 * call, 1)
        assert of_call[1] == x
        assert of_call[2] == 3 + 100 * call + sum(gave)


def test_networks_that_take_turns_have_a_schedule_each():
    pipe = Pipe()
    other = Transformer(pipe.clock)
    first, steps = pipe.transformer, iter(range(STEPS))

    class Both(nn.Module):
        def forward(self, hidden_states):
            return (first if next(steps) < 2 else other)(hidden_states)

    pipe.transformer = Both()
    cache = parse_cache("delta-dit(n=2,part=front,layers=2)").resolve(Blocks(first, ORDER).layout)
    _, driven = drive(pipe, [first, other], cache, traced(turns=(0, 0, 1, 1)))
    assert driven.cached_steps == [1, 3]  # the third step is the first of the other network
    assert [session.timesteps for session in driven.sessions] == [(1000, 900), (800, 700)]


@pytest.mark.parametrize(("steps", "told"), [(3, "ends after 3 steps"), (5, "takes more than")])
def test_a_pipeline_that_does_not_keep_to_its_plan_is_told(steps, told):
    with pytest.raises(SkipditError, match=told):
        outputs("fora(n=2)", Pipe(steps=steps))


def test_streams_and_packing_by_hand():
    """Text before the image; a stream that a block drops goes on as it came."""
    stream = Stream(("text", "image"), (0, 1), ("image", "text", "time"))
    text, image = torch.zeros(1, 2, 4), torch.ones(1, 3, 4)
    assert stream.entering((image,), {"text": text}) == [text, image]
    assert stream.given((image, text), {}, [image, text]) == ([text, image], {})
    assert stream.leaving((None, image), [text, text]) == [text, image]
    assert stream.returned([text, image], (None, True)) == (None, image)
    packing = Packing.of([text, image])
    packed = packing.pack([text, image])
    assert packed.shape == (1, 5, 4)
    assert packed[0, :, 0].tolist() == [0, 0, 1, 1, 1]
    for back, own in zip(packing.unpack(packed), (text, image), strict=True):
        assert torch.equal(back, own)
    wide = Packing.of([text, torch.ones(1, 3, 5)])
    assert wide.pack([text, torch.ones(1, 3, 5)]).shape == (1, 2 * 4 + 3 * 5)
    assert [tuple(each.shape) for each in wide.unpack(torch.arange(23.0)[None])] == [*wide.shapes]
