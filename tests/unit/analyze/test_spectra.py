"""Spectra: norms of weights, layers and stacks of whole models, and what is told of them."""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from skipdit_cli.analyze import inputs, spectra, spectra_told
from skipdit_cli.analyze.spectra import measure
from skipdit_cli.analyze.spectra_told import Spectra
from skipdit_cli.checkpoints import networks
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.local import Local
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import runs
from skipdit_cli.sites import Layout
from skipdit_cli.storage.analysis import Map

SMALL = {"at": [2], "tolerance": 0.05, "iterations": 4}


def run_of(model="digits", **settings):
    return runs.make_run(
        model, "none", {"steps": "3", "num_samples": 3, "batch_size": 2, **settings}
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measure([run_of()], Options(root=tmp_path_factory.mktemp("results")), **SMALL)


def panel(found, start):
    (one,) = [each for each in found.panels if each.title.startswith(start)]
    return one


def test_norms_of_weights_are_singular_values(found):
    run = run_of()
    model = networks.load(run.card, path=None, device="cpu", dtype="float32")
    shown = panel(found, "Norms of the weight matrices")
    assert shown.rows == ("adaLN_modulation.1", "attn.proj", "attn.qkv", "mlp.fc1", "mlp.fc2")
    assert shown.columns == tuple("012345")
    for i, block in enumerate(model.blocks):
        for name, row in zip(shown.rows, shown.values, strict=True):
            weight = block.get_submodule(name).weight.detach()
            assert row[i] == pytest.approx(torch.linalg.svdvals(weight)[0].item(), rel=1e-4)
    largest = panel(found, "Largest norm of a weight").series["digits"]
    assert largest == tuple(max(column) for column in zip(*shown.values, strict=True))


def test_what_a_weight_matrix_is(tmp_path, monkeypatch):
    """A convolution is [out, -1]; a norm has none, and a table that is looked up is none."""

    class Model(nn.Module):
        SITES = {"layer": "blocks.{i}"}

        def __init__(self):
            super().__init__()
            layer = nn.Sequential(
                nn.Conv2d(2, 3, 2), nn.LayerNorm(5), nn.Embedding(4, 4), nn.ReLU()
            )
            self.blocks = nn.ModuleList([layer, nn.Sequential()])

        def layout(self):
            return Layout("toy", 2, ())

    model = Model()
    monkeypatch.setattr(inputs, "model_of", lambda asked: nullcontext(model))
    found = spectra.matrices(inputs.asked(run_of(), (1,), Options(root=tmp_path), tmp_path))
    matrix = model.blocks[0][0].weight.detach().reshape(3, 8)
    assert [*found] == ["0.0"]
    assert found["0.0"].item() == pytest.approx(torch.linalg.svdvals(matrix)[0].item(), rel=1e-5)


def test_without_skips_the_product_of_the_layers_bounds_the_stack(found):
    """Every norm is found from below, so that it is nearly so."""
    slack = panel(found, "Product of the norms").series["digits"]
    assert panel(found, "Product of the norms").at == (1, 2, 3)
    assert min(slack) > 0.97
    layers = panel(found, "Norm of the Jacobian of each layer").series["digits"]
    stacks = panel(found, "Norm of the Jacobian of the stack").series["digits"]
    assert stacks[2] * slack[2] == pytest.approx(layers[2] * layers[3], rel=1e-6)
    assert stacks[0] * slack[0] == pytest.approx(np.prod(layers), rel=1e-6)


def test_the_summary_is_of_the_largest_stack(found):
    (line,) = found.summary
    stacks = panel(found, "Norm of the Jacobian of the stack")
    values = stacks.series["digits"]
    assert line["largest stack norm"] == pytest.approx(max(values))
    assert line["stack"] == 1 + values.index(max(values))
    at = line["stack"] - 1
    assert line["95 % interval"] == pytest.approx(
        [stacks.low["digits"][at], stacks.high["digits"][at]]
    )
    assert line["95 % interval"][0] < line["largest stack norm"] < line["95 % interval"][1]
    assert line["not converged"].endswith(" of 54")  # 6 layers and 3 stacks, 6 inputs


def test_few_iterations_do_not_converge(tmp_path):
    given = {**SMALL, "iterations": 2, "tolerance": 1e-6, "stacks": [1]}
    (line,) = measure([run_of(num_samples=1)], Options(root=tmp_path), **given).summary
    assert line["not converged"] == "14 of 14"


def test_the_same_seed_gives_the_same_bits(found, tmp_path):
    again = measure([run_of()], Options(root=tmp_path / "again"), **SMALL)
    assert (again.panels, again.summary) == (found.panels, found.summary)
    other = measure([run_of(seed=5)], Options(root=tmp_path), **SMALL)
    assert other.panels != found.panels


@pytest.mark.slow
def test_several_processes_find_the_same(found, tmp_path):
    together = measure([run_of()], Options(root=tmp_path, engine=Local(2)), **SMALL)
    assert together.panels == found.panels


def test_what_was_stopped_goes_on(found, tmp_path):
    seen = []

    def stage(stop):
        @contextmanager
        def stages(what):
            def update(done, total):
                seen.append((what, done, total))
                if stop and (what, done) == ("analyzing spectra: digits", 2):
                    raise KeyboardInterrupt

            yield update

        return stages

    with pytest.raises(KeyboardInterrupt):
        measure([run_of()], Options(root=tmp_path, stage=stage(stop=True)), **SMALL)
    seen.clear()
    again = measure([run_of()], Options(root=tmp_path, stage=stage(stop=False)), **SMALL)
    assert seen == [("analyzing spectra: digits", done, 3) for done in (2, 3)]
    assert again.panels == found.panels


@pytest.mark.slow
def test_models_of_unlike_depth_stand_side_by_side(tmp_path):
    both = [run_of("digits-skip", num_samples=1), run_of("painted-digits", num_samples=1)]
    found = measure(both, Options(root=tmp_path), **{**SMALL, "iterations": 2})
    layers, stacks = (panel(found, f"Norm of the Jacobian of {what}") for what in ("each", "the"))
    assert (layers.at, stacks.at) == (tuple(range(8)), (1, 2, 3, 4))
    for each, short in ((layers, 2), (stacks, 1)):
        assert [*each.series] == ["digits-skip", "painted-digits"]
        assert each.series["digits-skip"][-short:] == (None,) * short
        assert None not in each.series["painted-digits"]
        assert not each.low  # of one sample there is no interval
    maps = [each for each in found.panels if isinstance(each, Map)]
    assert [len(each.columns) for each in maps] == [6, 8]
    assert "skip.linear" in maps[0].rows
    skips = maps[0].values[maps[0].rows.index("skip.linear")]
    assert [value is None for value in skips] == [True] * 3 + [False] * 3
    assert "cannot be told" in found.notes[0]


def spectra_of(layers, stacks, *, numbers=(1, 2), model="digits"):
    """Of one step and of samples in columns."""
    asked = inputs.asked(run_of(model), (1,), Options(root=None), None)
    none = np.zeros((1, 1))
    return Spectra(asked, {}, np.array([layers]), numbers, np.array([stacks]), none, none)


def test_products_by_hand():
    """Stack 1 has layers of norm 2, 3, 5, 7, stack 2 those of 3 and 5; another sample halves."""
    layers = [[2, 1.0], [3, 1.5], [5, 2.5], [7, 3.5]]
    found = spectra_of(layers, [[21, 7.0], [30, 15.0]])
    assert found.products[0].tolist() == [[210, 13.125], [15, 3.75]]
    assert found.slack[0].tolist() == [[10, 1.875], [0.5, 0.25]]
    assert found.largest(0) == 1  # sqrt(30 * 15) is above sqrt(21 * 7)
    (line,) = spectra_told.summary([found])
    assert line["stack"] == 2
    assert line["largest stack norm"] == pytest.approx(450**0.5)
    assert line["mean layer norm"] == pytest.approx((210 * 13.125) ** (1 / 8))
    assert line["product / norm"] == pytest.approx(0.125**0.5)


def test_a_verdict_needs_intervals_apart():
    layers = [[1.0] * 3] * 4
    large = spectra_of(layers, [[9.0, 10, 11], [1, 1, 1]])
    small = spectra_of(layers, [[1.0, 1, 1], [2.9, 3, 3.1]], model="digits-skip")
    near = spectra_of(layers, [[5.0, 10, 15], [1, 1, 1]], model="digits-skip")
    said = [spectra_told.notes([large, other], 1e-3)[0] for other in (small, near)]
    assert said[0].startswith("At step 1 (timestep 999) the norm of a stack is at most 9.97 (")
    assert " in digits and 3 (" in said[0]
    assert said[0].endswith("digits-skip stretches a change less.")
    assert said[1].endswith("which stretches a change less cannot be told.")
    assert spectra_told.notes([small, large], 1e-3)[0].endswith(
        "digits-skip stretches a change less."
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tolerance": 0.0}, "^--tolerance: 0 is no tolerance; give a share, as 0.001"),
        ({"iterations": 1}, "^--iterations: 1 is too few; give 2 or more"),
        ({"stacks": [4]}, r"^--stacks: digits has no stack 4; take stacks from 1, .* to 3, its"),
        ({"stacks": [0]}, "^--stacks: digits has no stack 0"),
        ({"at": [4]}, "^--at: digits has no step 4"),
    ],
)
def test_what_cannot_be(tmp_path, given, said):
    with pytest.raises(UsageError, match=said):
        measure([run_of()], Options(root=tmp_path), **{**SMALL, **given})
    assert not [*tmp_path.iterdir()]
