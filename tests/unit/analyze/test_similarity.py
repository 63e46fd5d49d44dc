"""Similarity of cached generations to uncached ones, against plain numpy."""

import numpy as np
import pytest
import torch

from skipdit_cli.analyze import features, similarity
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.options import Options
from skipdit_cli.sites import Site, site_modules

SKIP = "skip-cache(n=2,branch=2)"


def generated(run, root, layer):
    """Conditional half of what leaves a layer [steps, samples, values], latents, and samples."""
    model, left, entered, found = network(run), [], [], []

    def keep(module, args, output):
        left.append(output.chunk(2)[0].flatten(1).numpy().copy())

    handle = site_modules(model)[Site("layer", layer)].register_forward_hook(keep)
    for batch in features.batches(run):
        left.clear(), entered.clear()
        sample = latents_of(
            run,
            batch,
            model=model,
            root=root,
            on_step=lambda session, x: entered.append(x.flatten(1).numpy().copy()),
        )
        found.append((np.stack(left), np.stack(entered), sample.flatten(1).numpy()[None]))
    handle.remove()
    return [np.concatenate(each, axis=1).astype(np.float64) for each in zip(*found, strict=True)]


def near(x, y):
    norm = np.linalg.norm
    return (
        ((x * y).sum(-1) / (norm(x, axis=-1) * norm(y, axis=-1))).mean(axis=1),
        (norm(x - y, axis=-1) / norm(y, axis=-1)).mean(axis=1),
    )


def only(panel):
    (values,) = panel.series.values()
    return values


@pytest.mark.parametrize("model", ["digits-skip", "moving-digits-skip"])
def test_it_is_what_plain_numpy_gives(small, model, tmp_path):
    run, cached = small(model, guidance="2"), small(model, "skip-cache(n=2)", guidance="2")
    found = similarity.measure([run], Options(root=tmp_path), cached=[cached])
    pairs = zip(generated(cached, tmp_path, 5), generated(run, tmp_path, 5), strict=True)
    left, entered, sample = (near(*pair) for pair in pairs)
    for panel, values in zip(found.panels, (*left, *entered), strict=True):
        assert only(panel) == pytest.approx(values, abs=1e-6)
        ((low,), (high,)) = panel.low.values(), panel.high.values()
        assert all(a <= b <= c for a, b, c in zip(low, only(panel), high, strict=True))
    (line,) = found.summary
    assert line["sample error"] == pytest.approx(sample[1][0], rel=1e-5)
    assert line["feature error"] == pytest.approx(left[1].mean(), rel=1e-5)
    assert line["worst"] == pytest.approx(left[0].min(), abs=1e-6)
    assert line["at timestep"] == run.timesteps[left[0].argmin()]
    assert line["worst error"] > 1e-3


def test_without_a_cache_nothing_differs(small, tmp_path):
    run = small("digits-skip")
    options = Options(root=tmp_path)
    found = similarity.measure([run], options, cached=[run, small("digits-skip", SKIP)])
    for panel in found.panels:
        same = {*panel.series["none"], *panel.low["none"], *panel.high["none"]}
        assert same == {0.0 if panel.log else 1.0}
    assert found.summary[0]["sample error"] == 0
    assert found.summary[1]["sample error"] > 1e-3
    assert len(found.notes) == 1  # none is not the nearest of two


def test_a_layer_that_is_reused_has_no_value(small, tmp_path):
    """Steps 1 and 3 of 5; the last layer always has one."""
    run, cached = small("digits-skip"), small("digits-skip", SKIP)
    found = similarity.measure([run], Options(root=tmp_path), cached=[cached], layers=[1, 2, 5])
    gaps = [[value is None for value in only(panel)] for panel in found.panels]
    assert gaps[2] == gaps[3] == [False, True, False, True, False]
    assert not any(map(any, gaps[:2] + gaps[4:]))
    assert [line["layer"] for line in found.summary] == [1, 2, 5]
    assert any(note.startswith("There is no value where") for note in found.notes)


def test_a_cache_that_leaves_out_half_of_guidance(small, tmp_path):
    """t-gate computes the null half alone once its gate is closed."""
    run, cached = (small("captioned-digits", cache) for cache in ("none", "t-gate(gate=2)"))
    found = similarity.measure([run], Options(root=tmp_path), cached=[cached])
    assert [value is None for value in only(found.panels[0])] == [False] * 2 + [True] * 3
    assert None not in only(found.panels[2])


def test_of_large_features_some_values_are_compared(small, monkeypatch, tmp_path):
    monkeypatch.setattr(features, "SOME", 64)
    run, cached = small("digits-skip"), small("digits-skip", SKIP)
    found = similarity.measure([run], Options(root=tmp_path), cached=[cached])
    left = [
        features.some(torch.from_numpy(generated(each, tmp_path, 5)[0])).numpy()
        for each in (cached, run)
    ]
    assert left[0].shape[-1] == 64
    assert only(found.panels[1]) == pytest.approx(near(*left)[1], rel=1e-4)


def test_two_models_are_put_beside_one_another(small, tmp_path):
    runs = [small("digits"), small("digits-skip")]
    cached = [small(run.model, "fora(n=2)") for run in runs]
    found = similarity.measure(runs, Options(root=tmp_path), cached=cached)
    name = cached[0].cache.short
    assert [*found.panels[0].series] == [f"digits, {name}", f"digits-skip, {name}"]
    errors = [line["sample error"] for line in found.summary]
    best = "digits" if errors[0] < errors[1] else "digits-skip"
    assert found.notes[-1].startswith(f"Samples stray least with {best}, {name} (")
    alone = similarity.measure(runs, Options(root=tmp_path), cached=cached[1:])
    assert alone.models == ("digits", "digits-skip")
    assert [line["model"] for line in alone.summary] == ["digits-skip"]


def test_a_cache_is_needed(small, tmp_path):
    with pytest.raises(UsageError, match=r"^--cache: nothing is compared without a cache"):
        similarity.measure([small("digits")], Options(root=tmp_path), cached=[])


def test_what_was_stopped_goes_on_to_the_same_bits(small, stopping, tmp_path):
    run, cached = small("digits-skip"), small("digits-skip", SKIP)
    whole = similarity.measure([run], Options(root=tmp_path / "whole"), cached=[cached])
    options, _ = stopping(1)
    with pytest.raises(KeyboardInterrupt):
        similarity.measure([run], options, cached=[cached])
    options, told = stopping(-1)
    assert similarity.measure([run], options, cached=[cached]).panels == whole.panels
    assert told == [1, 2]
