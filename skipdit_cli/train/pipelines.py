"""The transformer of a diffusers pipeline as a network that is trained; all else of it stays.

Pipelines of the class of Stable Diffusion 3 are trained: their transformer is given latents as a
picture, and text by the pipeline's own `encode_prompt`.
"""

import functools
import shutil
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skipdit_cli.checkpoints import folder as folders
from skipdit_cli.checkpoints import pipeline
from skipdit_cli.checkpoints.card import PIPELINE, Card
from skipdit_cli.embedded.captions import LISTS
from skipdit_cli.errors import UsageError
from skipdit_cli.generate import pipelines
from skipdit_cli.sites import Layout, Sites
from skipdit_cli.storage.disk import on_disk
from skipdit_cli.train.loss import Flow
from skipdit_cli.train.source import DRAWS, Drawn, generator, told

TRAINED = ("StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler")
PART = "transformer"
# How many tokens of T5 a batch has, taken at random: mostly few, as in the calls of `flow-digits`;
# and those that the pipeline takes where nobody says how many.
LENGTHS = (8, 8, 8, 8, 8, 8, 8, 32, 96, 256)


class Transformer(nn.Module):
    """The transformer, called as the networks of the families are."""

    CHANNEL_DIM = 1
    SITES: ClassVar[Sites] = {"layer": "network.transformer_blocks.{i}"}

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def layout(self) -> Layout:
        return Layout(PIPELINE, self.network.config.num_layers, ())

    def inputs(self, batch_size: int, *, device: str = "cpu") -> dict[str, Tensor]:
        """The latents alone."""
        config = self.network.config
        shape = batch_size, config.in_channels, config.sample_size, config.sample_size
        return {"hidden_states": torch.zeros(shape, device=device)}

    def forward(self, hidden_states: Tensor, timestep: Tensor, /, **given: Any) -> Any:
        return self.network(hidden_states=hidden_states, timestep=timestep, **given)


def check(chosen: Card) -> None:
    """Raise a UsageError unless a pipeline is one that can be trained: on data that is known."""
    made_so = (chosen.variant, chosen.sampling.sampler) == TRAINED
    if not made_so or chosen.data not in DRAWS:
        raise UsageError(
            f"{chosen.name} is a {chosen.variant}, and no pipeline is trained here so far but "
            "flow-digits and what came of it",
            place="--model",
            fix="take flow-digits, or a model of the families",
        )


def arguments(chosen: Card) -> dict[str, Any]:
    """The constructor arguments of the transformer."""
    content = pipeline.config(Path(chosen.folder), PART)
    return {name: value for name, value in content.items() if not name.startswith("_")}


def build(chosen: Card) -> Transformer:
    """The transformer with weights that are drawn, on the CPU."""
    from diffusers import SD3Transformer2DModel

    config = pipeline.config(Path(chosen.folder), PART)
    return Transformer(SD3Transformer2DModel.from_config(config))


def load(chosen: Card) -> Transformer:
    """The transformer with its weights, float32 on the CPU."""
    return Transformer(pipeline.transformer(Path(chosen.folder)))


def flow(chosen: Card, device: torch.device) -> Flow:
    """The schedule that a pipeline's scheduler says."""
    return Flow(device, shift=pipeline.config(Path(chosen.folder), "scheduler")["shift"])


def write(transformer: Transformer, chosen: Card, folder: Path) -> None:
    """A pipeline with this transformer into a folder: the other parts are copied."""
    source = Path(chosen.folder)
    transformer.network.save_pretrained(folder / PART)
    if folder.resolve() == source.resolve():
        return
    with on_disk(folder):
        for name in {*pipeline.parts(source)} - {PART}:
            shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
        shutil.copyfile(source / pipeline.INDEX, folder / pipeline.INDEX)
    folders.write(folder, chosen)


def learnt(chosen: Card) -> Drawn:
    """What an embedded model learns, a network or a pipeline.

    Raises:
        MissingAssetError: it is not here.
    """
    return (Captioned if chosen.pipeline else Drawn)(chosen)


class Captioned(Drawn):
    """What an embedded pipeline learns, drawn afresh at every step: latents of it, and captions.

    A label is the place of a caption, behind those of as many captions for each of LENGTHS that
    comes before the one of the batch.
    """

    def __init__(self, chosen: Card) -> None:
        super().__init__(chosen)
        self._captions = LISTS[chosen.task]
        self._pipe = pipelines.load(chosen)
        self._texts_of = functools.cache(self._encoded)

    def batch(self, step: int, rows: range, *, size: int, seed: int) -> tuple[Tensor, Tensor]:
        drawn = generator(seed, step)
        images, captions = self._draw(size, drawn)
        length = int(torch.randint(len(LENGTHS), (), generator=drawn))
        place = slice(rows.start, rows.stop)
        vae = self._pipe.vae
        with torch.no_grad():
            latents = vae.encode(coloured(images[place])).latent_dist.mode()
        latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
        return latents, captions[place] + length * len(self._captions)

    def conditions(self, labels: Tensor, dropped: Tensor) -> dict[str, Tensor]:
        length = LENGTHS[int(labels[0]) // len(self._captions)]
        given, null = self._texts_of(length)
        places = labels % len(self._captions)
        return {key: told(given[key][places], null[key], dropped) for key in given}

    def _encoded(self, length: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All captions, and the empty one, with so many tokens of T5."""
        return self._encode([*self._captions], length), self._encode([""], length)

    def _encode(self, captions: list[str], length: int) -> dict[str, Tensor]:
        with torch.no_grad():
            states, _, pooled, _ = self._pipe.encode_prompt(
                captions,
                *(None, None),
                do_classifier_free_guidance=False,
                max_sequence_length=length,
            )
        return {"encoder_hidden_states": states, "pooled_projections": pooled}


def coloured(images: Tensor) -> Tensor:
    """Grey images [N, 1, H, W] as autoencoders take them, [N, 3, H, W]."""
    return images.expand(-1, 3, -1, -1)
