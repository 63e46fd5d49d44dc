"""Sites: the places of a network that a cache can act on, in words models and caches share.

A model announces its sites and never a method; a method names sites and never a model class.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from skipdit_cli.errors import SkipditError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = (
    "layer",  # everything that is repeated: a block, or a (spatial, temporal) pair of blocks
    "attn.spatial",  # self-attention within a frame
    "attn.temporal",  # self-attention along time
    "attn.cross",  # attention to text
    "mlp.spatial",  # the MLP after spatial attention
    "mlp.temporal",  # the MLP after temporal attention
    "mlp.text",  # the MLP of text tokens, which a dual-stream block has beside the other
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
        kinds: the kinds of site that layers have.
        skips: (to, from) pairs: layer `to` is joined with the output of layer `from`.
        absent: sites of these kinds, and layers, that are not there; methods need not know.
    """

    family: str
    layers: int
    kinds: tuple[str, ...]
    skips: tuple[tuple[int, int], ...] = ()
    absent: frozenset[Site] = frozenset()


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

    def name(self, module: "nn.Module") -> str:
        """The name of the argument."""
        return _parameters(type(module).forward)[self.argument + 1]

    def entering(
        self, module: "nn.Module", args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> "Tensor":
        """The hidden state among a call's arguments."""
        by_position = self.argument < len(args)
        return args[self.argument] if by_position else kwargs[self.name(module)]

    def leaving(self, returned: Any) -> "Tensor":
        """The hidden state in what a module returned."""
        return returned if self.output is None else returned[self.output]

    def replaced(self, returned: Any, hidden_states: "Tensor | None") -> Any:
        """What a module returned, with another hidden state in its place."""
        if (place := self.output) is None:
            return hidden_states
        return (*returned[:place], hidden_states, *returned[place + 1 :])

    def misfit(self, returned: object) -> str:
        """What is wrong with what a module returned, or nothing."""
        if self.output is None:
            return "gives a tuple and no tensor" if isinstance(returned, tuple) else ""
        if not isinstance(returned, tuple):
            return f"gives a {type(returned).__name__} and no tuple, but a place in it is named"
        if not 0 <= self.output < len(returned):
            return f"gives a tuple of {len(returned)}, which has no place {self.output}"
        return ""


@functools.cache
def _parameters(forward: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(forward).parameters)


Sites = Mapping[str, str | Place]  # by kind; a path alone is a Place with nothing else to say


def gated(x: "Tensor", gate: "Tensor | None", residual: "Tensor | None") -> "Tensor":
    """What a module's output becomes: residual + gate * x, without either where it is None.

    It is one operation, so that a site gives the same bits whether a cache stands on it or not.
    """
    if residual is None:
        return x if gate is None else gate * x
    return residual + x if gate is None else residual.addcmul(gate, x)


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


def place_of(model: Sited, kind: str) -> Place:
    """Where a model has its sites of a kind."""
    given = model.SITES[kind]
    return given if isinstance(given, Place) else Place(given)


def site_modules(model: Sited) -> "dict[Site, nn.Module]":
    """Every site of a model and the module behind it, layer by layer.

    Raises:
        SkipditError: `SITES` names a module that the model does not have, or a kind that is none.
    """
    layers, modules = model.layout().layers, {}
    for kind in model.SITES:
        if kind not in KINDS:
            raise unknown("kind of site", kind, KINDS, place=where(model))
        if layers > 1 and "{i}" not in place_of(model, kind).path:
            raise SkipditError(
                f"{kind} is the same module in all {layers} layers",
                place=where(model),
                fix="write {i} where the path has the index of the layer",
            )
    for i in range(layers):
        for kind in model.SITES:
            path = place_of(model, kind).path.replace("{i}", str(i))
            try:
                modules[Site(kind, i)] = model.get_submodule(path)
            except AttributeError:
                raise SkipditError(
                    f"{kind} names {path}, and the model has no such module",
                    place=where(model),
                    fix="give the dotted path from the model to the module",
                ) from None
    return modules


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
        gate: what the site's output is multiplied by after the method, None where by nothing.
    """

    site: Site
    step: int
    steps: int
    timestep: int
    reuse: bool
    cached: bool
    halves: str
    store: dict[Any, Any]
    gate: "Tensor | None" = None

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
