"""Sensitivity: the tail of a generation again, against whole generations by plain hooks."""

import numpy as np
import pytest
import torch

from skipdit_cli.analyze import features, sensitivity
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.options import Options
from skipdit_cli.sites import Site, site_modules
from skipdit_cli.storage.analysis import write_analysis


def whole(run, root, layer, step):
    """Strayed and gain of every sample, from a generation of which a layer is reused at a step."""
    model, found = network(run), []
    module = site_modules(model)[Site("layer", layer)]
    for batch in features.batches(run):
        outputs = []

        def reuse(module, args, output, outputs=outputs):
            outputs.append(output)
            return outputs[step - 1] if len(outputs) == step + 1 else output

        before = latents_of(run, batch, model=model, root=root).flatten(1).double()
        handle = module.register_forward_hook(reuse)
        after = latents_of(run, batch, model=model, root=root).flatten(1).double()
        handle.remove()
        error = (outputs[step] - outputs[step - 1]).double()
        halves = error.reshape(2 if run.guided else 1, len(batch), -1)
        span = before.max(dim=1).values - before.min(dim=1).values
        off = (after - before).square()
        found.append((off.mean(dim=1) / span**2, off.sum(dim=1) / halves.square().sum(dim=(0, 2))))
    strayed, gain = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    return strayed, np.sqrt(gain)


def at(panel, layer, step):
    row, column = panel.rows.index(str(layer)), panel.columns.index(str(step))
    return panel.values[row][column]


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("digits-skip", {"guidance": "2"}),
        ("digits", {"sampler": "ddpm", "guidance": "none"}),
        ("moving-digits-skip", {"sampler": "ddpm", "num_samples": 2, "steps": "4"}),
    ],
)
def test_it_is_what_whole_generations_give(small, model, settings, tmp_path):
    run = small(model, **settings)
    found = sensitivity.measure([run], Options(root=tmp_path), layers=2, every=2)
    level, gain = found.panels
    assert level.rows == ("0", "5")
    assert level.columns == tuple(str(run.timesteps[step]) for step in (1, 3))
    everything = {}
    for layer in (0, 5):
        for step in (1, 3):
            strayed, gained = whole(run, tmp_path, layer, step)
            everything[layer, step] = 10 * np.log10(strayed)
            t = run.timesteps[step]
            assert at(level, layer, t) == pytest.approx(everything[layer, step].mean(), rel=1e-9)
            assert at(gain, layer, t) == pytest.approx(gained.mean(), rel=1e-9)
    (line,) = found.summary
    means = {place: each.mean() for place, each in everything.items()}
    assert line["mean"] == pytest.approx(np.mean([*means.values()]))
    worst = max(means, key=means.get)
    assert line["most"] == pytest.approx(means[worst])
    assert (line["most at layer"], line["most at timestep"]) == (worst[0], run.timesteps[worst[1]])
    assert line["least"] == pytest.approx(min(means.values()))
    low, high = line["95 % interval"]
    assert low <= line["mean"] <= high


def test_what_changes_nothing_has_no_number(small, monkeypatch, tmp_path):
    """Layers that give the same at every step: reused they are the same."""
    run = small("digits")
    for site, module in site_modules(network(run)).items():
        if site.kind == "layer":
            monkeypatch.setattr(module, "forward", lambda x, *conditions: torch.ones_like(x))
    found = sensitivity.measure([run], Options(root=tmp_path), layers=2)
    for panel in found.panels:
        assert {value for row in panel.values for value in row} == {None}
    (line,) = found.summary
    assert line["mean"] is line["95 % interval"] is line["most"] is line["amplification"] is None
    write_analysis(tmp_path, found)


def test_samples_that_stray_count_where_others_do_not():
    strayed = np.array([0.0, 1e-4, 1e-6])
    assert sensitivity.decibels(strayed)[1:].tolist() == pytest.approx([-40, -60])
    assert sensitivity._mean(sensitivity.decibels(strayed)) == pytest.approx(-50)
    assert np.isnan(sensitivity._mean(np.array([np.nan])))


def test_which_layers_and_steps_are_tried(small):
    run = small("digits")
    assert sensitivity.tried_layers(run, None) == (0, 1, 2, 3, 4, 5)
    assert sensitivity.tried_layers(run, 3) == (0, 2, 5)
    assert sensitivity.tried_layers(run, 1) == (5,)
    with pytest.raises(UsageError, match=r"^--layers 7: digits has 6 layers; take 1 to 6$"):
        sensitivity.tried_layers(run, 7)
    assert sensitivity.tried_steps(14, None) == (1, 6, 10, 11, 12, 13)
    assert sensitivity.tried_steps(14, 3) == (1, 4, 7, 10, 13)
    assert sensitivity.tried_steps(2, None) == (1,)


def test_of_a_deep_model_some_layers_are_tried(small, monkeypatch):
    monkeypatch.setattr(sensitivity, "MOST_LAYERS", 4)
    assert sensitivity.tried_layers(small("digits"), None) == (0, 2, 3, 5)


def test_a_network_gives_what_it_is_told_and_then_computes(small):
    model = network(small("digits"))
    inputs = model.inputs(1)
    x, t = inputs.pop("hidden_states"), inputs.pop("timestep")
    plain = model(x, t, **inputs, return_dict=False)[0]

    def fails():
        with sensitivity.given([model], torch.stack([plain + 1, plain + 2])):
            for more in (1, 2, 0):
                told = model(x, t, **inputs, return_dict=False)[0]
                assert torch.equal(told, plain + more)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert "forward" not in vars(model)


def test_two_models_and_what_a_cache_reuses(small, tmp_path):
    few = {"num_samples": 2, "steps": "4"}
    runs = [small("digits", **few), small("digits-skip", **few)]
    cached = small("digits-skip", "skip-cache(n=2,branch=2)", **few)
    found = sensitivity.measure(runs, Options(root=tmp_path), cached=[cached], layers=3, every=1)
    assert [panel.title.split(":")[0] for panel in found.panels] == [
        *("digits", "digits"),
        *("digits-skip", "digits-skip"),
    ]
    level = found.panels[2]
    # layers 0, 2 and 5 and steps 1 to 3; it reuses 2 and 3 at steps 1 and 3
    assert level.marks == {cached.cache.short: ((1, 0), (1, 2))}
    heading = f"reused by {cached.cache.short}"
    mean = (level.values[1][0] + level.values[1][2]) / 2
    assert [line[heading] for line in found.summary] == [None, pytest.approx(mean)]
    assert found.notes[-1].startswith("digits less digits-skip: ")
    assert found.notes[-1].count("(") == found.notes[-1].count(")")


def test_what_was_stopped_goes_on_to_the_same_bits(small, stopping, tmp_path):
    run = small("digits")
    settings = {"layers": 2, "every": 2}
    complete = sensitivity.measure([run], Options(root=tmp_path / "whole"), **settings)
    options, _ = stopping(3)  # of two batches and two steps, the uncached batches apart
    with pytest.raises(KeyboardInterrupt):
        sensitivity.measure([run], options, **settings)
    options, told = stopping(-1)
    assert sensitivity.measure([run], options, **settings).panels == complete.panels
    assert told == [3, 4]
