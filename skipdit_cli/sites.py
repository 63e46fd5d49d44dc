"""Sites: the places of a network that a cache can act on, in words models and caches share.

A model announces its sites and never a method; a method names sites and never a model class.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

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


@dataclass(slots=True)
class Call:
    """One call of a hooked site, as a cache method sees it.

    Attributes:
        site: which site is being called.
        reuse: whether the schedule reuses this site at this step.
        cached: whether the schedule reuses any site at this step.
        guided: whether the batch holds both halves of classifier-free guidance, [cond; null].
        last: whether it is the last step.
        store: what the method keeps between steps; one dictionary per guidance branch, emptied
            before every generation.
    """

    site: Site
    reuse: bool
    cached: bool
    guided: bool
    last: bool
    store: dict
