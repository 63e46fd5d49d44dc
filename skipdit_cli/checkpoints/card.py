"""Cards: what is known of a checkpoint, whoever keeps it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from skipdit_cli.precision import PRECISIONS

RANDOM = "random"  # what stands for a fingerprint where weights are drawn
DRY_RUN = "random weights: a dry run, the samples and their scores mean nothing"
EMBEDDED, CONFIGS = "embedded", "configs"  # repositories that are folders of the package
DATASETS = {"c2i": "imagenet256", "t2v": "vbench", "t2i": "coco-val2014"}  # scored by
PIPELINE = "pipeline"  # the family of whatever diffusers has a pipeline of
# What the embedded models were trained on; each has a classifier, and metrics by it: fid@digits.
DIGITS, FASHION = "digits", "fashion"
EMBEDDED_DATA = (DIGITS, FASHION)
_LONGEST = 40  # characters of a folder in the name of a file


def data_of(metric: str) -> str:
    """The data whose models a metric is about: "digits" of "fid@digits"; "" if any model's."""
    protocol = metric.partition("@")[2]
    return protocol if protocol in EMBEDDED_DATA else ""


def by_path(name: str) -> bool:
    """Whether the name of a model is the path of its folder (`folder.py`)."""
    return "/" in name


def file_name(name: str) -> str:
    """A model's name as a part of file names: of a path its end, and what tells it from others.

    >>> file_name("digits-skip"), file_name("results/train/mine"), file_name("../my models/mine")
    ('digits-skip', 'mine-ab8ebf9d', 'mine-37ecfbbf')
    """
    if not by_path(name):
        return name
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip("-._")[:_LONGEST]
    return f"{last or 'model'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint is sampled: the first three unless told otherwise, the others always.

    Attributes:
        sampler: "ddpm" or "ddim".
        steps: official respacing string.
        guidance: scale of classifier-free guidance, or None for none.
        betas: shape ("linear" or "scaled_linear"), first and last value of the training schedule.
        prediction: "epsilon" or "v_prediction".
        learned_variance: whether the network's variance is used; the official text pipelines drop
            it and sample with the posterior's own.
    """

    sampler: str
    steps: str
    guidance: float | None = None
    betas: tuple[str, float, float] = ("linear", 1e-4, 0.02)
    prediction: str = "epsilon"
    learned_variance: bool = True


@dataclass(frozen=True)
class Component:
    """A part of a pipeline beside the denoiser, in the layout of diffusers or transformers.

    Attributes:
        repository: on the hub; EMBEDDED ships with the package, CONFIGS does without weights.
        folder: inside the repository; "" is its root.
        size: bytes of the download, about.
    """

    repository: str
    folder: str = ""
    size: int = 0


@dataclass(frozen=True)
class Card:
    """One checkpoint.

    Attributes:
        family: the model file. task: "c2i", "c2v", "t2v" or "t2i". variant: a key of VARIANTS.
        arguments: constructor arguments beyond the variant's.
        tiny: name of the embedded model that stands for it at the tiny scale, if any.
        source: hub repository or address. files: accepted file names, best first.
        size: bytes of the download; about, unless `exact`.
        exact: whether the file has this size to the byte.
        digest: as many of the first hex digits of its sha256 as are known; of a pipeline whose
            weights are drawn, of all else that is in its folder.
        licence: the strictest that is stated for the file. elsewhere: what else is, and where.
        components: what stands beside the denoiser: `vae` (without it the model works on pixels),
            `tokenizer` and `text_encoder`, `tokenizer_2` and `text_encoder_2`.
        precisions: of the denoiser, the usual one first; in others it is known to fail.
        prompts: name of the prompt list that is used unless told otherwise.
        negative_prompt: what the null half of guidance is conditioned on unless told otherwise.
        timed_batch: samples in the batch that the paper times; None where it has no latency of it.
        folder: where its weights are, of a checkpoint that comes with its family's package or is
            named by its path: a file diffusion_pytorch_model.safetensors.
        data: name of the data that it was trained on, where it is known by more than the name.
        random: whether all weights are drawn instead of read (`drawn.card`): a dry run.
    """

    name: str
    family: str
    task: str
    variant: str
    skip: bool
    sampling: Sampling
    tiny: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    files: tuple[str, ...] = ()
    size: int = 0
    exact: bool = False
    digest: str = ""
    licence: str = "Apache-2.0"
    elsewhere: str = ""
    components: Mapping[str, Component] = field(default_factory=dict)
    precisions: tuple[str, ...] = PRECISIONS
    prompts: str = ""
    negative_prompt: str = ""
    timed_batch: int | None = None
    folder: str = ""
    data: str = ""
    random: bool = False

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def embedded(self) -> bool:
        return self.name == self.tiny

    @property
    def by_path(self) -> bool:
        """Whether it is a folder that was named by its path."""
        return by_path(self.name)

    @property
    def pipeline(self) -> bool:
        """Whether it is a pipeline of diffusers, whose own call makes the samples."""
        return self.family == PIPELINE

    @property
    def identity(self) -> str:
        """16 hex digits of what changes samples beside weights and settings.

        A name that is in the catalogue says it already.
        """
        how = self.sampling
        said = [self.family, self.variant, self.skip, sorted(self.arguments.items())]
        said += [how.betas, how.prediction, how.learned_variance]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]

    @property
    def dataset(self) -> str:
        """What the samples are compared with: the name of a reference; "" if that is not known."""
        if self.data or self.by_path:
            return self.data
        return self.name.removesuffix("-skip") if self.task == "c2v" else DATASETS[self.task]

    @property
    def num_classes(self) -> int | None:
        """Number of classes, None for an unconditional model and for one that takes text."""
        default = 1000 if self.family == "dit" else None
        return self.arguments.get("num_classes", default)

    @property
    def native_skip(self) -> bool:
        """Whether the network was designed with skip branches, so that none has been added."""
        return self.family == "hunyuan_dit"

    @property
    def text(self) -> bool:
        """Whether the model takes prompts."""
        return self.task in ("t2v", "t2i")
