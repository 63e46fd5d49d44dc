"""What one call shows of a transformer, and of a pipeline whose parts have no weights."""

import copy
import json

import diffusers
import pytest
import torch
from torch import nn

from skipdit_cli.checkpoints import hollow, pipeline, scheduled
from skipdit_cli.checkpoints.denoiser import Blocks
from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.checkpoints.untouched import untouched
from skipdit_cli.checkpoints.watched import Watched
from skipdit_cli.errors import UsageError

SMALL = {"num_attention_heads": 2, "attention_head_dim": 16}


@pytest.fixture(scope="module")
def auraflow():
    """A transformer whose first list has a name that diffusers' caches do not know, watched."""
    with torch.device("meta"):
        module = diffusers.AuraFlowTransformer2DModel(
            **SMALL,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            num_mmdit_layers=2,
            num_single_dit_layers=3,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pos_embed_max_size=64,
        )
        watched = Watched(module)
        with watched.watching():
            module(torch.zeros(1, 4, 8, 8), torch.zeros(1, 5, 32), torch.zeros(1))
    return module, watched


def test_lists_that_hidden_states_go_through_are_layers(auraflow):
    _, watched = auraflow
    assert watched.order == [
        *(f"joint_transformer_blocks.{i}" for i in range(2)),
        *(f"single_transformer_blocks.{i}" for i in range(3)),
    ]
    assert watched.skips == []


def test_what_a_block_returns_is_told_by_where_it_goes(auraflow):
    """Text and image, of a class without an entry at diffusers; then both of them as one."""
    _, watched = auraflow
    double = {(("encoder_hidden_states", "hidden_states"), (0, 1))}
    assert {(each.names, each.outputs) for each in watched.streams[:2]} == double
    assert {(each.names, each.outputs) for each in watched.streams[2:]} == {
        (("hidden_states",), ())
    }
    assert watched.steady


def test_blocks_have_the_streams_that_were_seen(auraflow):
    module, watched = auraflow
    seen = tuple((each.names, each.outputs) for each in watched.streams)
    empty = dict.fromkeys(
        ("timesteps", "sigmas", "turns", "samples", "calls", "output", "given"), ()
    )
    call = {**empty, "flow": True, "decoding": 0, "order": tuple(watched.order), "skips": ()}
    blocks = Blocks.of(module, Traced(**call, steady=True, streams=seen))
    of_layers = [blocks.streams[site] for site in blocks.streams if site.kind == "layer"]
    assert tuple((each.names, each.outputs) for each in of_layers) == seen


class Backwards(nn.Module):
    """Two streams that are joined the image first."""

    def __init__(self):
        super().__init__()
        self.transformer_blocks = nn.ModuleList([Double(), Double()])
        self.single_transformer_blocks = nn.ModuleList([Single(), Single()])

    def forward(self, hidden_states, encoder_hidden_states):
        for block in self.transformer_blocks:
            encoder_hidden_states, hidden_states = block(hidden_states, encoder_hidden_states)
        hidden_states = torch.cat([hidden_states, encoder_hidden_states], dim=1)
        for block in self.single_transformer_blocks:
            hidden_states = block(hidden_states)
        return hidden_states


class Double(nn.Module):
    def forward(self, hidden_states, encoder_hidden_states):
        return encoder_hidden_states + 1, hidden_states + 1


class Single(nn.Module):
    def forward(self, hidden_states):
        return hidden_states + 1


def test_streams_that_are_joined_in_another_order_are_not_one():
    """A residual over all layers would add that of text to the image."""
    watched = Watched(Backwards())
    with watched.watching():
        watched._module(torch.zeros(1, 4, 8), torch.zeros(1, 4, 8))
    assert len(watched.order) == 4
    assert not watched.steady


class Asks(nn.Module):
    """Asks for the length of a text, and takes its tokens by a mask."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 6)

    def forward(self, states, mask):
        longest = int(mask.sum(dim=1).max())
        with torch.autocast(self.project.weight.device.type, enabled=False):
            found = self.project(states)[mask.to(self.project.weight.device)]
        return found, torch.arange(longest, device=found.device)


def test_values_are_there_until_a_weight_touches_them():
    with torch.device("meta"):
        module = Asks()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    with untouched():
        found, places = module(torch.zeros(2, 3, 4), mask)
    assert found.is_meta
    assert found.shape == (3, 6)
    assert places.tolist() == [0, 1]


def test_the_steps_of_a_copy_of_a_scheduler_are_not_its_own():
    scheduler, told = diffusers.FlowMatchEulerDiscreteScheduler(), []

    def step(own, *args, **kwargs):
        told.append(args[1])
        return own(*args, **kwargs)

    end = scheduled.instead(scheduler, step=step)
    scheduler.set_timesteps(2)
    other, x = copy.deepcopy(scheduler), torch.zeros(1)
    for time in scheduler.timesteps:
        other.step(x, time, x)
        scheduler.step(x, time, x)
    end()
    assert told == [*scheduler.timesteps]
    assert type(scheduler) is diffusers.FlowMatchEulerDiscreteScheduler


@pytest.mark.parametrize(
    ("kind", "inverted"), [("FlowMatchEulerDiscreteScheduler", True), ("SCMScheduler", False)]
)
def test_timesteps_go_down_from_1000_whatever_a_scheduler_counts(kind, inverted):
    scheduler = getattr(diffusers, kind)(**{"invert_sigmas": True} if inverted else {})
    few = {} if inverted else {"intermediate_timesteps": None}
    scheduler.set_timesteps(4, **few)
    seen = hollow.Trace(scheduler=scheduler)
    for _ in scheduler.timesteps[:4]:
        seen.steps.append(hollow.Step())
        hollow._note_time(seen, seen.steps[-1])
    times = [step.timestep for step in seen.steps]
    assert times == sorted(times, reverse=True)
    assert times[0] == pytest.approx(1000)
    assert all(step.timestep == pytest.approx(1000 * step.sigma) for step in seen.steps)


@pytest.fixture
def indexed(tmp_path):
    def write(**content):
        text = json.dumps({"_class_name": "LTX2Pipeline", **content})
        (tmp_path / pipeline.INDEX).write_text(text)
        return tmp_path

    return write


def test_parts_of_diffusers_own_pipelines_are_no_foreign_code(indexed):
    folder = indexed(
        connectors=["ltx2", "LTX2TextConnectors"], layers=[0, 1], processor=[None, None]
    )
    assert pipeline.parts(folder) == {"connectors": ("ltx2", "LTX2TextConnectors")}
    found = pipeline.class_of("ltx2", "LTX2TextConnectors")
    assert found.__module__.startswith("diffusers.pipelines.ltx2")


@pytest.mark.parametrize("part", [["ltx2", "os"], ["os", "system"], ["mine", "Net"]])
def test_code_of_others_is_refused(indexed, part):
    with pytest.raises(UsageError, match=f"connectors is code of {part[0]}"):
        pipeline.index(indexed(connectors=part))


def test_what_calls_of_classes_say():
    assert pipeline.facts("SanaVideoPipeline").clip
    assert not pipeline.facts("SanaPipeline").clip
    classes = ("FluxPipeline", "ZImagePipeline", "Krea2Pipeline")
    assert [pipeline.facts(each).off for each in classes] == [1.0, 0.0, 0.0]
