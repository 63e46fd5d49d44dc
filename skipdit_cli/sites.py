"""Sites: the places of a network that a cache can act on, in words models and caches share.

A model announces its sites and never a method; a method names sites and never a model class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from skipdit_cli.errors import SkipditError, unknown

if TYPE_CHECKING:
    from torch import nn

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


@dataclass(frozen=True)
class Place:
    """Where a network has the modules of one kind of site, and where their hidden state is.

    Attributes:
        path: dotted path from the model to the module, with `{i}` for the index of the layer.
        argument: which argument of `forward` the hidden state is, counted from 0; callers may pass
            it by position or by name.
        output: which element of the tuple that `forward` returns the hidden state is; None where
            it returns nothing else.
    """

    path: str
    argument: int = 0
    output: int | None = None

    def misfit(self, returned: object) -> str:
        """What is wrong with what a module returned, or nothing."""
        if self.output is None:
            return "gives a tuple and no tensor" if isinstance(returned, tuple) else ""
        if not isinstance(returned, tuple):
            return f"gives a {type(returned).__name__} and no tuple, but a place in it is named"
        if not 0 <= self.output < len(returned):
            return f"gives a tuple of {len(returned)}, which has no place {self.output}"
        return ""


Sites = Mapping[str, str | Place]  # by kind; a path alone is a Place with nothing else to say


class Sited(Protocol):
    """What a model says of its sites."""

    SITES: Sites

    def layout(self) -> Layout: ...

    def get_submodule(self, target: str) -> "nn.Module": ...


def kinds_of(sites: Sites) -> tuple[str, ...]:
    """The kinds of site inside a layer, for `Layout.kinds`."""
    return tuple(kind for kind in sites if kind != "layer")


def where(model: Sited) -> str:
    """The place of a model's `SITES`, for errors."""
    return f"{type(model).__module__}.{type(model).__qualname__}.SITES"


def place(model: Sited, kind: str) -> Place:
    """Where a model has its sites of a kind."""
    given = model.SITES[kind]
    return given if isinstance(given, Place) else Place(given)


def site_modules(model: Sited) -> "dict[Site, nn.Module]":
    """Every site of a model and the module behind it, layer by layer.

    Raises:
        SkipditError: `SITES` names a module that the model does not have, or a kind that is none.
    """
    layers, found = model.layout().layers, {}
    for kind in model.SITES:
        if kind not in KINDS:
            raise unknown("kind of site", kind, KINDS, place=where(model))
        if layers > 1 and "{i}" not in place(model, kind).path:
            raise SkipditError(
                f"{kind} is the same module in all {layers} layers",
                place=where(model),
                fix="write {i} where the path has the index of the layer",
            )
    for i in range(layers):
        for kind in model.SITES:
            path = place(model, kind).path.replace("{i}", str(i))
            try:
                found[Site(kind, i)] = model.get_submodule(path)
            except AttributeError:
                raise SkipditError(
                    f"{kind} names {path}, and the model has no such module",
                    place=where(model),
                    fix="give the dotted path from the model to the module",
                ) from None
    return found


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
    store: dict[Any, Any]
