"""The tiny pipelines of the tests are whole, repeat themselves, and need each of their blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skipdit_cli.checkpoints.denoiser import block_stream
from tests.tiny_pipelines import CALLS, NAMES, make

QUICK = ("flux", "wan22")
TRANSFORMERS = ("transformer", "transformer_2")
MOST_BYTES = 3_000_000


@pytest.fixture(
    scope="module",
    params=[
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
    ],
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return make(name, tmp_path_factory.mktemp("pipelines") / name)


@pytest.fixture(scope="module")
def sample(name, folder):
    """sample(prompt, seed, output_type): what the loaded pipeline makes."""
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)

    def call(prompt="a dog", seed=0, output_type="np", **changed):
        generator = torch.Generator().manual_seed(seed)
        arguments = {**CALLS[name], "output_type": output_type, **changed}
        made = pipeline(prompt=prompt, generator=generator, **arguments)
        return np.asarray(made.images if hasattr(made, "images") else made.frames)

    call.pipeline = pipeline
    return call


def transformers(pipeline):
    found = (getattr(pipeline, part, None) for part in TRANSFORMERS)
    return [transformer for transformer in found if transformer is not None]


def blocks(transformer):
    """The lists of blocks that the transformer runs one after another."""
    lists = (part for part in transformer.children() if isinstance(part, torch.nn.ModuleList))
    return [part for part in lists if len(part) >= 3]


def unchanged(block, args, kwargs, output):
    """In place of a block's output: its input."""
    hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
    if not isinstance(output, tuple):
        return hidden
    known = block_stream(block).outputs  # of a class that diffusers' caches know
    shapes = [getattr(state, "shape", None) for state in output]  # the last may leave one out
    index = known[-1] if known else shapes.index(hidden.shape)
    return (*output[:index], hidden, *output[index + 1 :])


def tokens(encoder, tell):
    """Let tell(input_ids) decide what the text encoder is given; undone by the hook's remove()."""

    def change(encoder, args, kwargs):
        if args:
            return (tell(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "input_ids": tell(kwargs["input_ids"])}

    return encoder.register_forward_pre_hook(change, with_kwargs=True)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_the_same_small_files_are_written_each_time(name, folder, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        again = files(make(name, tmp_path / "again"))
    assert again == files(folder)
    assert sum(map(len, again.values())) < MOST_BYTES


def test_samples_are_finite_and_of_the_shape_asked_for(name, sample):
    made = sample()
    asked = CALLS[name]
    frames = [asked[key] for key in ("num_frames", "video_length") if key in asked]
    assert made.shape == (1, *frames, asked["height"], asked["width"], 3)
    assert np.isfinite(made).all()
    assert made.std() > 0.02


def test_prompt_and_seed_decide_every_bit(sample):
    made = sample()
    assert (sample() == made).all()
    assert (sample("a cat") != made).any()
    assert (sample(seed=1) != made).any()


def test_every_block_matters(sample):
    made = sample(output_type="latent")
    for transformer in transformers(sample.pipeline):
        assert blocks(transformer)
        for block in (block for row in blocks(transformer) for block in row):
            hook = block.register_forward_hook(unchanged, with_kwargs=True)
            without = sample(output_type="latent")
            hook.remove()
            assert np.abs(without - made).max() > 0.01 * made.std()


def test_every_text_encoder_matters(sample):
    """The other prompt's tokens, given to one of the encoders alone, make another sample."""
    made = sample(output_type="latent")
    parts = sample.pipeline.components.items()
    for encoder in (part for key, part in parts if key.startswith("text_encoder")):
        seen = []
        hook = tokens(encoder, lambda ids, seen=seen: seen.append(ids) or ids)
        sample("a cat", output_type="latent")
        hook.remove()
        hook = tokens(encoder, lambda ids, seen=seen: seen.pop(0))
        other = sample(output_type="latent")
        hook.remove()
        assert not seen
        assert np.abs(other - made).max() > 1e-3 * made.std()


def test_guidance_matters(name, sample):
    scale = "true_cfg_scale" if "true_cfg_scale" in CALLS[name] else "guidance_scale"
    assert (sample(**{scale: 2.0}) != sample()).any()
