"""Known checkpoints: what they are, where they come from, how the paper samples from them.

Sources and sizes: the official repository OpenSparseLLMs/Skip-DiT (72609de) and the model hubs. The
embedded models ship with the package; `skipdit train` made them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from skipdit_cli.errors import unknown


@dataclass(frozen=True)
class Sampling:
    """How a checkpoint is sampled unless told otherwise.

    Attributes:
        sampler: "ddpm" or "ddim".
        steps: official respacing string.
        guidance: scale of classifier-free guidance, or None for none.
    """

    sampler: str
    steps: str
    guidance: float | None = None


@dataclass(frozen=True)
class Card:
    """One checkpoint.

    Attributes:
        family: the model file. task: "c2i" or "c2v". variant: a key of the family's VARIANTS.
        arguments: constructor arguments beyond the variant's.
        tiny: name of the embedded model that stands for it at the tiny scale.
        source: hub repository or address. files: accepted file names, best first.
        size: bytes of the download.
        vae: hub repository of the autoencoder; None means that the model works on pixels.
    """

    name: str
    family: str
    task: str
    variant: str
    skip: bool
    sampling: Sampling
    tiny: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    files: tuple[str, ...] = ()
    size: int = 0
    licence: str = "Apache-2.0"
    vae: str | None = None

    @property
    def embedded(self) -> bool:
        return self.name == self.tiny

    @property
    def num_classes(self) -> int | None:
        """Number of classes, None for an unconditional model."""
        default = 1000 if self.family == "dit" else None
        return self.arguments.get("num_classes", default)


_SKIP_HUB = "GuanjieChen/Skip-DiT"
_LATTE_HUB = "maxin-cn/Latte"
_IMAGE = Sampling("ddpm", "250", 1.5)
_VIDEO = Sampling("ddpm", "250")


def _video(dataset: str, files: tuple[str, ...], *, skip: bool) -> Card:
    """A class-to-video checkpoint of one dataset; only UCF101 has classes."""
    labelled = dataset == "ucf101"
    return Card(
        name=dataset + ("-skip" if skip else ""),
        family="latte",
        task="c2v",
        variant="Latte-XL/2",
        skip=skip,
        sampling=Sampling("ddim", "50", 7.0) if labelled else _VIDEO,
        tiny="moving-digits" + ("-skip" if skip else ""),
        arguments=MappingProxyType({"num_classes": 101} if labelled else {}),
        source=_SKIP_HUB if skip else _LATTE_HUB,
        files=files,
        size=2_770_000_000 if skip else 2_700_000_000,
        licence="CC-BY-NC-4.0" if skip else "Apache-2.0",
        vae="stabilityai/sd-vae-ft-ema",
    )


def _embedded(task: str, *, skip: bool) -> Card:
    family, name = ("dit", "digits") if task == "c2i" else ("latte", "moving-digits")
    name += "-skip" if skip else ""
    return Card(
        name=name,
        family=family,
        task=task,
        variant="DiT-digits/4" if task == "c2i" else "Latte-digits/4",
        skip=skip,
        sampling=Sampling("ddim", "50", 2.0 if task == "c2i" else 4.0),
        tiny=name,
        arguments=MappingProxyType({"num_classes": 10}),
        source="embedded",
    )


_ALL = (
    _embedded("c2i", skip=False),
    _embedded("c2i", skip=True),
    _embedded("c2v", skip=False),
    _embedded("c2v", skip=True),
    Card(
        name="dit-xl-2",
        family="dit",
        task="c2i",
        variant="DiT-XL/2",
        skip=False,
        sampling=_IMAGE,
        tiny="digits",
        source="https://dl.fbaipublicfiles.com/DiT/models/",
        files=("DiT-XL-2-256x256.pt",),
        size=2_700_000_000,
        licence="CC-BY-NC-4.0",
        vae="stabilityai/sd-vae-ft-mse",
    ),
    Card(
        name="dit-xl-2-skip",
        family="dit",
        task="c2i",
        variant="DiT-XL/2",
        skip=True,
        sampling=_IMAGE,
        tiny="digits-skip",
        source=_SKIP_HUB,
        files=("DiT-XL-2-skip.pt",),
        size=11_400_000_000,
        licence="CC-BY-NC-4.0",
        vae="stabilityai/sd-vae-ft-mse",
    ),
    _video("ucf101", ("ucf101.pt",), skip=False),
    _video("ucf101", ("ucf101-skip.pt",), skip=True),
    _video("taichi", ("taichi-hd.pt",), skip=False),
    _video("taichi", ("taichi-skip.pt",), skip=True),
    _video("ffs", ("ffs.pt",), skip=False),
    _video("ffs", ("ffs-skip.pt",), skip=True),
    _video("skytimelapse", ("skytimelapse.pt",), skip=False),
    _video("skytimelapse", ("skytimelapse-skip.pt", "skylapse-skip.pt"), skip=True),
)
CARDS: Mapping[str, Card] = MappingProxyType({card.name: card for card in _ALL})


def card(name: str, *, place: str = "") -> Card:
    """The card of a checkpoint.

    Raises:
        UsageError: no such checkpoint; the nearest name is named.
    """
    if name not in CARDS:
        raise unknown("model", name, CARDS, place=place)
    return CARDS[name]
