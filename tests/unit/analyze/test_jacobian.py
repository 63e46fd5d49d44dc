"""Jacobians of layers and stacks: against full ones, finite differences and singular values."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn

from skipdit_cli.analyze import inputs, spectra
from skipdit_cli.analyze.jacobian import Stack, layers_of, spectral_norms
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate import conditioning
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import runs
from skipdit_cli.run import Run
from skipdit_cli.sites import Layout, Place, Site, site_modules

FINE = {"tolerance": 1e-6, "iterations": 300}
FAMILIES = ("digits-skip", "moving-digits-skip", "captioned-digits-skip", "painted-digits")


class Layer(nn.Module):
    """Gives a tuple, and takes the hidden state and the skip by name."""

    def __init__(self, change, fuse=None):
        super().__init__()
        self.change, self.fuse = change, fuse

    def forward(self, condition, hidden_states, skip=None):
        if self.fuse is not None:
            hidden_states = self.fuse(torch.cat([hidden_states, skip], dim=-1))
        return condition, self.change(hidden_states)


class Toy(nn.Module):
    SITES = {"layer": Place("layers.{i}", argument=1, output=1)}

    def __init__(self, *changes, skips=(), between=None):
        super().__init__()
        self.skips, self.between = skips, between
        fuses = [nn.Linear(6, 3) if i in dict(skips) else None for i in range(len(changes))]
        self.layers = nn.ModuleList(map(Layer, changes, fuses))

    def layout(self):
        return Layout("toy", len(self.layers), (), self.skips)

    def forward(self, x):
        left = []
        for i, layer in enumerate(self.layers):
            skip = left[dict(self.skips)[i]] if i in dict(self.skips) else None
            x = layer(1.0, hidden_states=x, skip=skip)[1]
            left.append(x)
            x = self.between(x) if self.between else x
        return x


def curved():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))


X = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.5]])


def found(model, first, last, x=X, **how):
    layers = layers_of(model, lambda: model(x))
    stack = Stack(layers, model.layout().skips, first, last)
    start = torch.ones_like(x) + torch.arange(x.numel()).reshape(x.shape) / 7
    how = {**FINE, **how}
    return spectral_norms(stack.forward, stack.backward, start, inputs=len(x), **how)


def test_of_a_linear_model_it_is_the_largest_singular_value():
    torch.manual_seed(0)
    model = Toy(nn.Linear(3, 3), nn.Linear(3, 3))
    first, second = (layer.change.weight.detach() for layer in model.layers)
    for ends, matrix in (((0, 0), first), ((1, 1), second), ((0, 1), second @ first)):
        norm = torch.linalg.svdvals(matrix)[0].item()
        assert found(model, *ends).values.tolist() == pytest.approx([norm, norm], rel=1e-4)


def test_of_the_identity_it_is_one():
    model = Toy(nn.Identity(), nn.Identity())
    for ends in ((0, 0), (1, 1), (0, 1)):
        norms = found(model, *ends)
        assert norms.values.tolist() == pytest.approx([1, 1], abs=1e-6)
        assert norms.changes.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_of_nothing_it_is_zero():
    model = Toy(nn.Linear(3, 3))
    nn.init.zeros_(model.layers[0].change.weight)
    assert found(model, 0, 0).values.tolist() == pytest.approx([0, 0])


@pytest.mark.parametrize("ends", [(0, 5), (1, 4), (2, 3), (1, 5), (2, 5), (3, 3), (0, 2)])
def test_a_stack_has_the_skips_inside_it(ends):
    """By hand: the layers as one function of what enters the first, skips from before it held."""
    torch.manual_seed(1)
    skips = ((3, 2), (4, 1), (5, 0))
    model = Toy(*(curved() for _ in range(6)), skips=skips)
    first, last = ends
    held = {}
    for i, layer in enumerate(layers_of(model, lambda: model(X))):
        held[i] = layer.x.detach()
    held[6] = model(X).detach()

    def whole(x):
        left = {i: held[i + 1][:1] for i in range(first)}
        for i in range(first, last + 1):
            skip = left[dict(skips)[i]] if i in dict(skips) else None
            x = left[i] = model.layers[i](1.0, x[None] if x.dim() == 1 else x, skip)[1]
        return x[0]

    jacobian = torch.autograd.functional.jacobian(whole, held[first][0])
    assert found(model, *ends).values[0] == pytest.approx(
        torch.linalg.svdvals(jacobian)[0].item(), rel=1e-3
    )


def test_inputs_do_not_mix():
    torch.manual_seed(2)
    model = Toy(curved(), curved())
    both = found(model, 0, 1).values
    alone = [found(model, 0, 1, x[None]).values[0] for x in X]
    assert both == pytest.approx(torch.stack(alone), rel=1e-4)
    assert abs(both[0] - both[1]) > 1e-3


def test_what_has_not_converged_is_known():
    """diag(1, 0.999, 0): from (1, 1, 1) the norm creeps up."""
    model = Toy(nn.Linear(3, 3, bias=False))
    model.layers[0].change.weight.data = torch.diag(torch.tensor([1.0, 0.9, 0.0]))
    few = found(model, 0, 0, tolerance=1e-3, iterations=2)
    assert (few.changes > 1e-3).all()
    many = found(model, 0, 0, tolerance=1e-3, iterations=100)
    assert (many.changes <= 1e-3).all()
    assert many.values.tolist() == pytest.approx([1, 1], abs=0.01)
    assert (few.values < many.values).all()


def test_few_products_are_enough_where_singular_values_are_near():
    """Of 50 from 1 to 0.5, where power iteration is 1 % too low after as many."""
    scale = torch.linspace(1, 0.5, 50)

    def product(v):
        return v * scale

    start = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    norms = spectral_norms(product, product, start, inputs=2, tolerance=1e-3, iterations=12)
    assert (norms.changes <= 1e-3).all()
    assert norms.values.tolist() == pytest.approx([1, 1], abs=3e-3)
    assert (norms.values <= 1 + 1e-6).all()
    v = start
    for _ in range(12):
        v = product(product(v))
    assert (product(v).norm(dim=1) / v.norm(dim=1) < 0.99).all()


def test_all_inputs_have_to_converge():
    """One starts at its largest singular vector, the other far from it."""

    def forward(v):
        return v * torch.tensor([3.0, 2.0, 1.0])

    start = torch.tensor([[1.0, 0, 0], [0.1, 1, 1]])
    norms = spectral_norms(forward, forward, start, inputs=2, tolerance=1e-4, iterations=50)
    assert norms.values.tolist() == pytest.approx([3, 3], abs=0.01)


def test_layers_that_are_not_one_after_another():
    model = Toy(curved(), curved(), between=lambda x: x + 1)
    with pytest.raises(SkipditError, match="layer 1 is not given what the one before gives"):
        layers_of(model, lambda: model(X))
    model = Toy(curved(), curved(), skips=((1, 0),))
    del model.layers[1].fuse
    model.layers[1].fuse = None

    def call():
        x = model.layers[0](1.0, hidden_states=X)[1]
        model.layers[1](1.0, hidden_states=x)

    with pytest.raises(SkipditError, match="layer 1 is not given what its skip gives"):
        layers_of(model, call)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Called(NamedTuple):
    run: Run
    model: nn.Module
    call: Callable
    layers: list


@pytest.fixture(scope="module", params=FAMILIES)
def called(request, tmp_path_factory):
    """A model of every family, a call of it, and its layers at that call."""
    root = tmp_path_factory.mktemp("results")
    run = runs.make_run(request.param, "none", {"steps": "4", "num_samples": 2})
    conditioning.prepare(run, root)
    asked = inputs.asked(run, (2,), Options(root=root), root)
    given = {key.partition(".")[2]: value for key, value in inputs.record(asked, range(2)).items()}
    with inputs.model_of(asked) as model:
        call = functools.partial(inputs.called, model, given)
        yield Called(run, model, call, layers_of(model, call))


def test_products_of_every_family_are_transposes(called):
    """<u, J v> = <J^T u, v>, of every layer and stack."""
    model, layers = called.model, called.layers
    last, skips = len(layers) - 1, model.layout().skips
    torch.manual_seed(0)
    for first, until in [(i, last - i) for i in range(len(layers) // 2)] + [(0, 0), (last, last)]:
        stack = Stack(layers, skips, first, until)
        u, v = torch.randn(2, *layers[0].x.shape)
        forward, backward = (u * stack.forward(v)).sum(), (stack.backward(u) * v).sum()
        assert forward == pytest.approx(backward.item(), rel=1e-3, abs=0.05)


def test_products_of_every_family_are_finite_differences(called):
    """The network itself, what enters a layer moved a little to either side."""
    model, layers = called.model, called.layers
    last, modules = len(layers) - 1, site_modules(model)
    v = torch.randn(layers[0].x.shape, generator=torch.Generator().manual_seed(0))

    def leaving(first, until, far):
        left = []

        def enters(module, args, kwargs):
            return (args[0] + far * v, *args[1:]), kwargs

        into, out = modules[Site("layer", first)], modules[Site("layer", until)]
        handles = [
            into.register_forward_pre_hook(enters, with_kwargs=True),
            out.register_forward_hook(lambda module, args, output: left.append(output)),
        ]
        called.call()
        for handle in handles:
            handle.remove()
        return left[0]

    for first, until in ((0, last), (1, last - 1), (last, last)):
        far = 0.01
        moved = (leaving(first, until, far) - leaving(first, until, -far)) / (2 * far)
        product = Stack(layers, model.layout().skips, first, until).forward(v)
        assert (moved - product).norm() < 0.02 * product.norm()


@pytest.mark.slow
def test_a_norm_of_a_real_layer_is_that_of_its_whole_jacobian(called):
    """Of the first input; the whole Jacobian row by row, by reverse mode."""
    run, layers = called.run, called.layers
    if run.card.task in ("c2v", "t2v"):
        pytest.skip("the Jacobian of a layer of a clip is large")
    index = len(layers) // 2 + 1  # it has a skip, which is held
    layer = layers[index]
    assert layer.skip_at is not None
    stack = Stack(layers, (), index, index)
    start = spectra.start(run, range(2), layer.x)
    norms = spectral_norms(stack.forward, stack.backward, start, inputs=4, **FINE)
    pull = torch.func.vjp(layer, *layer.inputs)[1]
    rows, values = [], layer.x[0].numel()
    for i in range(values):
        u = torch.zeros(len(layer.x), values)
        u[0, i] = 1
        rows.append(pull(u.reshape(layer.x.shape))[0][0].flatten())
    exact = torch.linalg.svdvals(torch.stack(rows))[0]
    assert norms.values[0] == pytest.approx(exact.item(), rel=1e-3)
