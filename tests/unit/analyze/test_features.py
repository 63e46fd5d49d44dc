"""What analyses of features share: hidden states that leave layers, and how near they are."""

import math

import pytest
import torch

from skipdit_cli.analyze import features
from skipdit_cli.analyze.looking import halves
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.options import Options
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL, NULL_FIRST


def test_cosines_by_hand():
    x, y = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]), torch.tensor([4.0, 3.0])
    y = torch.stack([y, torch.zeros(2), y])
    assert features.cosine(x, y).tolist() == pytest.approx([0.96, 1, 0])
    pairs = features.cosines(torch.stack([x[0], y[0], x[1]]))
    assert pairs.flatten().tolist() == pytest.approx([1, 0.96, 0, 0.96, 1, 0, 0, 0, 1])


def test_the_same_has_similarity_one_to_the_last_bit():
    x = torch.randn(50, 999, generator=torch.Generator().manual_seed(0))
    assert features.cosine(x, x.clone()).tolist() == [1.0] * 50
    assert features.cosines(x).diagonal().tolist() == [1.0] * 50


def test_values_belong_to_their_sample_and_half():
    """Two samples of two frames: a half is [a, a, b, b]."""
    x = torch.arange(8.0)[:, None]
    first, second = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[4, 5], [6, 7]])
    for holds, conditional, null in ((BOTH, first, second), (NULL_FIRST, second, first)):
        found = halves(x, 2, holds)
        assert torch.equal(found[CONDITIONAL], conditional)
        assert torch.equal(found[NULL], null)
    assert {half: x.tolist() for half, x in halves(x, 4, NULL).items()} == {
        NULL: [[0, 1], [2, 3], [4, 5], [6, 7]]
    }


def test_some_values_are_the_same_ones_at_every_step():
    x = torch.arange(2.0 * 9000).reshape(2, 9000)
    first = features.some(x)
    assert first.shape == (2, features.SOME)
    assert torch.equal(first, features.some(x))
    assert torch.equal(first[1], first[0] + 9000)
    assert len(set(first[0].tolist())) > 5000
    assert torch.equal(features.some(x[:, :8192]), x[:, :8192])


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "model", ["digits-skip", "moving-digits", "captioned-digits", "painted-digits"]
)
def test_what_is_seen_leaves_the_layers_and_can_be_replaced(small, model, tmp_path):
    """Watching changes no bit; a layer's output in place of it does."""
    run = small(model, steps="2", num_samples=1, batch_size=1)
    where = features.prepare(run, Options(root=tmp_path))
    network_of = network(run)
    count, seen = network_of.layout().layers, []

    def see(layer, x, holds):
        seen.append((layer, [*halves(x, 1, holds)]))

    watched = features.sample(run, [0], where, layers=range(count), see=see)
    plain = latents_of(run, [0], model=network_of, root=tmp_path)
    assert torch.equal(watched, plain)
    both = [CONDITIONAL, NULL] if run.guided else [CONDITIONAL]
    assert seen == [(layer, both) for layer in range(count)] * 2
    changed = features.sample(run, [0], where, layers=[count - 1], see=lambda _, x, holds: 0 * x)
    assert not torch.equal(changed, plain)
    assert not any(module._forward_hooks for module in network_of.modules())


def test_what_is_not_finite_is_told(small, tmp_path):
    run, where = small("digits"), features.Where(tmp_path)
    with pytest.raises(SkipditError, match=r"^digits: what it computes with none is not finite; "):
        features.sample(run, [0], where, layers=[0], see=lambda _, x, holds: x / 0)


def test_layers_and_steps_that_are_not_there(small, tmp_path):
    run = small("digits")
    assert features.chosen_layers(run, [5, 0, 5], ()) == (0, 5)
    with pytest.raises(UsageError, match=r"^--layer: digits has no layer 6; take 0 to 5$"):
        features.chosen_layers(run, [6], ())
    with pytest.raises(UsageError, match=r"^--steps: "):
        features.prepare(small("digits", steps="1"), Options(root=tmp_path))


def test_settings_in_which_models_differ_are_lists(small):
    runs = [small("digits"), small("digits-skip", guidance=None)]
    said = features.settings_of(runs, layers=[0])
    assert said["steps"] == "5"
    assert said["guidance"] == [runs[0].guidance, None]
    assert said["layers"] == [0]
    assert len(said["weights"]) == 2


def test_numbers_that_are_none():
    assert features.numbers([0.5, math.nan, -math.inf]) == (0.5, None, None)
