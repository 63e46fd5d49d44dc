"""Jacobians of layers and of stacks of layers at one call of a model, and their spectral norms.

A layer is looked at as a function of its hidden state, and of the skip that joins it; all else
stays as the model called it. Products with a stack's Jacobian go through its layers one after the
other, each linearised at what entered it in that call, so that no more than one layer's graph is in
memory. J v is computed in forward mode and J^T u in reverse mode (torch.func).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from skipdit_cli.errors import SkipditError
from skipdit_cli.sites import Place, Site, place_of, site_modules, where

if TYPE_CHECKING:
    from skipdit_cli.models import Network

TINY = 1e-30  # of a norm, by which is divided


@dataclass(frozen=True)
class Layer:
    """A layer at one call of the model.

    Attributes:
        args, kwargs: what it was called with.
        x: the hidden state that entered it.
        x_at, skip_at: which argument is the hidden state, and which the skip; None without one.
    """

    module: nn.Module
    place: Place
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    x: Tensor
    x_at: int | str
    skip_at: int | str | None

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The hidden state, and the skip if there is one."""
        if self.skip_at is None:
            return (self.x,)
        at = self.skip_at
        return self.x, self.args[at] if isinstance(at, int) else self.kwargs[at]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The hidden state that leaves it, of others than those that entered it."""
        args, kwargs = [*self.args], {**self.kwargs}
        for at, value in zip((self.x_at, self.skip_at), inputs, strict=False):
            if isinstance(at, int):
                args[at] = value
            elif at is not None:
                kwargs[at] = value
        return self.place.leaving(self.module(*args, **kwargs))

    def forward(self, *tangents: Tensor) -> Tensor:
        """J v: how the hidden state that leaves changes with what enters."""
        with _differentiable():
            return torch.func.jvp(self, self.inputs, tangents)[1]

    def backward(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        """J^T u, for the hidden state, and for the skip if there is one."""
        with _differentiable():
            return torch.func.vjp(self, *self.inputs)[1](cotangent)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Attention in plain operations: fused ones have no derivative in forward mode."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def layers_of(model: "Network", call: Callable[[], object]) -> list[Layer]:
    """The layers of a model as one call finds them.

    Args:
        call: calls the model.
    Raises:
        SkipditError: a layer is not given what the one before it, or the one that its skip comes
            from, gives.
    """
    layout, place = model.layout(), place_of(model, "layer")
    modules = [site_modules(model)[Site("layer", i)] for i in range(layout.layers)]
    given: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    left: dict[int, Tensor] = {}

    def enters(i: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given[i] = args, kwargs

        return hook

    def leaves(i: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            left[i] = place.leaving(output)

        return hook

    handles = []
    for i, module in enumerate(modules):
        handles.append(module.register_forward_pre_hook(enters(i), with_kwargs=True))
        handles.append(module.register_forward_hook(leaves(i)))
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    sources = dict(layout.skips)
    return [
        _layer(
            model, i, module, *given[i], before=left.get(i - 1), skip=left.get(sources.get(i, -1))
        )
        for i, module in enumerate(modules)
    ]


def _layer(
    model: "Network",
    i: int,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    before: Tensor | None,
    skip: Tensor | None,
) -> Layer:
    place = place_of(model, "layer")
    x = place.entering(module, args, kwargs)
    x_at = place.argument if place.argument < len(args) else place.name(module)
    named: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    skips = [at for at, value in named if skip is not None and value is skip and at != x_at]
    odd = "its skip" if skip is not None and not skips else ""
    if before is not None and x is not before:
        odd = "the one before"
    if odd:
        raise SkipditError(
            f"layer {i} is not given what {odd} gives, so that no stack of layers can be followed",
            place=where(model),
        )
    return Layer(module, place, args, kwargs, x, x_at, skips[0] if skips else None)


@dataclass(frozen=True)
class Stack:
    """The layers from `first` to `last`, as a function of the hidden state that enters the first.

    Skips from a layer of the stack are part of it; those from before it stay as they are.

    Attributes:
        layers: all of the model.
        skips: (to, from) pairs.
    """

    layers: Sequence[Layer]
    skips: Sequence[tuple[int, int]]
    first: int
    last: int

    def _source(self, i: int) -> int | None:
        """The layer of the stack from which layer i has its skip."""
        source = dict(self.skips).get(i)
        return None if source is None or source < self.first else source

    def forward(self, tangent: Tensor) -> Tensor:
        """J v."""
        left: dict[int, Tensor] = {}
        for i in range(self.first, self.last + 1):
            layer, source = self.layers[i], self._source(i)
            tangents = [tangent]
            if layer.skip_at is not None:
                still = torch.zeros_like(layer.inputs[1])
                tangents.append(still if source is None else left[source])
            tangent = left[i] = layer.forward(*tangents)
        return tangent

    def backward(self, cotangent: Tensor) -> Tensor:
        """J^T u."""
        owed: dict[int, Tensor] = {}  # to what leaves layers, by the skips that it goes into
        for i in range(self.last, self.first - 1, -1):
            if i in owed:
                cotangent = cotangent + owed.pop(i)
            found = self.layers[i].backward(cotangent)
            cotangent, source = found[0], self._source(i)
            if source is not None:
                owed[source] = found[1]
        return cotangent


class Norms(NamedTuple):
    """Spectral norms.

    Attributes:
        values: of each input, [inputs].
        changes: by how much of itself each changed in the last iteration, [inputs].
    """

    values: Tensor
    changes: Tensor


def spectral_norms(
    forward: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    inputs: int,
    tolerance: float,
    iterations: int,
) -> Norms:
    """The largest singular values of a batch of square Jacobians.

    Golub-Kahan-Lanczos bidiagonalisation: what is known after k products from either side is a
    bidiagonal matrix [k, k], the largest singular value of which approaches that of the Jacobian
    from below. Vectors are not made orthogonal again, which would only spoil the smaller values.

    Args:
        forward, backward: J v and J^T u, of all inputs together; one does not enter another's.
        start: v, [inputs * ..., ...].
        inputs: how many Jacobians there are.
        tolerance: it ends when no norm changes by more than this share of itself,
        iterations: or after so many.
    """

    def unit(x: Tensor) -> tuple[Tensor, Tensor]:
        size = x.norm(dim=1, keepdim=True)
        return x / size.clamp_min(TINY), size

    def of(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        found = product(x.reshape(start.shape).to(start.dtype))
        return found.detach().reshape(inputs, -1).float()

    v, _ = unit(start.reshape(inputs, -1).float())
    u, beta = torch.zeros_like(v), torch.zeros(inputs, 1, device=v.device)
    known = torch.zeros(inputs, iterations, iterations + 1, device=v.device)
    values = torch.zeros(inputs, device=v.device)
    changes = torch.ones_like(values)
    for k in range(iterations):
        u, alpha = unit(of(forward, v) - beta * u)
        known[:, k, k] = alpha[:, 0]
        before, values = values, torch.linalg.matrix_norm(known[:, : k + 1, : k + 1], ord=2)
        changes = (values - before).abs() / values.clamp_min(TINY)
        if bool((changes <= tolerance).all()):
            break
        v, beta = unit(of(backward, u) - alpha * v)
        known[:, k, k + 1] = beta[:, 0]
    return Norms(values, changes)
