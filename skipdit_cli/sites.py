"""Sites: the places of a network that a cache can act on, in words models and caches share.

A model announces its sites and never a method; a method names sites and never a model class.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

KINDS = (
    "layer",  # everything that is repeated: a block, or a (spatial, temporal) pair of blocks
    "attn.spatial",  # self-attention within a frame
    "attn.temporal",  # self-attention along time
    "attn.cross",  # attention to text
    "mlp.spatial",  # the MLP after spatial attention
    "mlp.temporal",  # the MLP after temporal attention
)


class Site(NamedTuple):
    """One place: its kind (one of KINDS) and the index of the layer it belongs to."""

    kind: str
    layer: int

    def __str__(self) -> str:
        return f"{self.kind}[{self.layer}]"


@dataclass(frozen=True)
class Layout:
    """What a cache may know of a model.

    Attributes:
        family: name of the model file; methods use it to look up the paper's defaults.
        layers: number of layers.
        kinds: the kinds of site that every layer has.
        skips: (to, from) pairs: layer `to` is joined with the output of layer `from`.
    """

    family: str
    layers: int
    kinds: tuple[str, ...]
    skips: tuple[tuple[int, int], ...] = ()


def whole_layers(layout: Layout, layers: Iterable[int]) -> frozenset[Site]:
    """The layers of these indices, and every site inside them."""
    return frozenset(Site(kind, i) for i in layers for kind in ("layer", *layout.kinds))


# What a call computes of classifier-free guidance: both halves, [conditional; null], one of them,
# or both as [null; conditional], which diffusers' hooks are written for.
BOTH, CONDITIONAL, NULL, NULL_FIRST = "both", "conditional", "null", "null first"


@dataclass(slots=True)
class Call:
    """One call of a hooked site, as a cache method sees it.

    Attributes:
        site: which site is being called.
        step: which step it is, from 0.
        steps: how many there are.
        timestep: of the step, a training timestep 999 to 0.
        reuse: whether the schedule reuses this site at this step.
        cached: whether the schedule reuses any site at this step.
        halves: what the batch holds: BOTH halves of guidance, the CONDITIONAL or the NULL one
            alone, or NULL_FIRST; CONDITIONAL without guidance.
        store: what the method keeps between steps; one dictionary per guidance branch, emptied
            before every generation.
    """

    site: Site
    step: int
    steps: int
    timestep: int
    reuse: bool
    cached: bool
    halves: str
    store: dict[Any, Any]

    @property
    def guided(self) -> bool:
        """Whether the batch holds both halves of guidance."""
        return self.halves == BOTH

    @property
    def last(self) -> bool:
        """Whether it is the last step."""
        return self.step == self.steps - 1


@dataclass(slots=True)
class Guided:
    """One guided call of a network, as a cache method sees it.

    Attributes:
        x: what is denoised, [B, ...] in the model's layout.
        step: which step it is, from 0.
        timesteps: of all steps.
        channel_dim: the dimension of `x` that holds the channels.
        compute: the network on BOTH halves or NULL_FIRST -> [2B, ...], or on one -> [B, ...].
        store: as in Call.
    """

    x: "Tensor"
    step: int
    timesteps: Sequence[int]
    channel_dim: int
    compute: Callable[[str], "Tensor"]
    store: dict[Any, Any]


@dataclass(slots=True)
class Seen:
    """What a calibration saw of one step of an uncached generation.

    Attributes:
        entered, left: the hidden states that entered and left each watched site, [B or 2B, ...].
        output: of the network, [B or 2B, ...].
        samples: how many samples the batch has, B.
        guided: whether it holds both halves of guidance, [conditional; null].
    """

    entered: dict[Site, "Tensor"]
    left: dict[Site, "Tensor"]
    output: "Tensor"
    samples: int
    guided: bool

    def by_sample(self, x: "Tensor") -> "Tensor":
        """All values of each sample, both halves of guidance: [(2) B * ..., ...] -> [B, values]."""
        return x.reshape(2 if self.guided else 1, self.samples, -1).transpose(0, 1).flatten(1)
