"""Dynamics: similarity of what leaves a layer at two steps, against plain numpy."""

import numpy as np
import pytest
import torch

from skipdit_cli.analyze import dynamics, features
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.options import Options
from skipdit_cli.sites import site_modules
from skipdit_cli.storage.analysis import Lines, Map


def everything(run, root):
    """All that leaves all layers at all steps: [layers, steps, halves, samples, values]."""
    model, left, found = network(run), [], []

    def keep(module, args, output):
        left.append(output.numpy().copy())

    handles = [block.register_forward_hook(keep) for block in blocks(model)]
    for batch in features.batches(run):
        left.clear()
        latents_of(run, batch, model=model, root=root)
        shape = len(run.timesteps), len(blocks(model)), 2, len(batch), -1
        found.append(np.stack(left).reshape(shape).swapaxes(0, 1))
    for handle in handles:
        handle.remove()
    return np.concatenate(found, axis=3).astype(np.float64)


def blocks(model):
    return [module for site, module in site_modules(model).items() if site.kind == "layer"]


def alike(x, y):
    return (x * y).sum(-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))


def values(panel):
    return np.array(panel.values, dtype=np.float64)


@pytest.mark.parametrize("model", ["digits-skip", "moving-digits"])
def test_it_is_what_plain_numpy_gives(small, model, tmp_path):
    run = small(model, guidance="2")
    found = dynamics.measure([run], Options(root=tmp_path), layers=[1])
    left = everything(run, tmp_path)
    near = alike(left[:, 1:], left[:, :-1]).mean(axis=-1)  # [layers, steps - 1, halves]
    conditional, null, pairs = found.panels
    assert 1 - values(conditional) == pytest.approx(near[:, :, 0], abs=1e-9)
    assert 1 - values(null) == pytest.approx(near[:, :, 1], abs=1e-9)
    every = alike(left[1, :, None, 0], left[1, None, :, 0]).mean(axis=-1)
    assert values(pairs) == pytest.approx(every, abs=1e-9)
    assert (pairs.rows, conditional.columns) == (("999", "749", "500", "250", "0"), pairs.rows[1:])
    first, second = found.summary
    assert first["similarity"] == pytest.approx(near[:, :, 0].mean())
    assert second["lowest"] == pytest.approx(near[:, :, 1].min())
    layer, step = np.unravel_index(near[:, :, 1].argmin(), near.shape[:2])
    assert (second["at layer"], second["at timestep"]) == (layer, run.timesteps[step + 1])
    low, high = first["95 % interval"]
    assert low <= first["similarity"] <= high


def test_of_large_features_some_values_are_compared(small, monkeypatch, tmp_path):
    run = small("digits")
    monkeypatch.setattr(features, "SOME", 64)
    *_, pairs = dynamics.measure([run], Options(root=tmp_path), layers=[0]).panels
    left = torch.from_numpy(everything(run, tmp_path)[0, :, 0])
    few = features.some(left).numpy()
    assert few.shape[-1] == 64
    assert values(pairs) == pytest.approx(alike(few[:, None], few[None]).mean(axis=-1), abs=1e-9)


def test_of_many_steps_some_are_compared(small, monkeypatch, tmp_path):
    monkeypatch.setattr(dynamics, "MOST_STEPS", 3)
    run = small("digits")
    *_, pairs = dynamics.measure([run], Options(root=tmp_path), layers=[0]).panels
    left = everything(run, tmp_path)[0, ::2, 0]
    assert pairs.rows == ("999", "500", "0")
    assert values(pairs) == pytest.approx(alike(left[:, None], left[None]).mean(axis=-1), abs=1e-9)


def test_layers_that_pass_on_what_never_changes_have_similarity_one(small, monkeypatch, tmp_path):
    run = small("digits")
    model = network(run)
    for block in blocks(model):
        monkeypatch.setattr(block, "forward", lambda x, *conditions: x)
    monkeypatch.setattr(model.x_embedder, "forward", lambda x: torch.full((len(x), 16, 72), 0.3))
    found = dynamics.measure([run], Options(root=tmp_path))
    alike = [value for panel in found.panels[2:] for row in panel.values for value in row]
    assert alike == pytest.approx([1] * len(alike), abs=1e-12)  # to the last bits of a product
    unlike = [value for row in found.panels[0].values for value in row]
    assert unlike == pytest.approx([0] * len(unlike), abs=1e-12)
    assert [line["similarity"] for line in found.summary] == pytest.approx([1, 1], abs=1e-12)


def test_two_models_are_put_beside_one_another(small, tmp_path):
    runs = [small("digits"), small("digits-skip")]
    cached = small("digits-skip", "skip-cache(n=2,branch=2)")
    found = dynamics.measure(runs, Options(root=tmp_path), cached=[cached])
    profile, *maps = found.panels
    assert isinstance(profile, Lines)
    assert set(profile.series) == set(profile.low) == {"digits", "digits-skip"}
    near = values(next(panel for panel in maps if panel.title.startswith("digits-skip")))
    assert profile.series["digits-skip"] == pytest.approx(near.mean(axis=0))
    assert all(isinstance(panel, Map) for panel in maps)
    assert [panel.marks for panel in maps if panel.title.startswith("digits:")] == [{}] * 5
    marked = next(panel for panel in maps if panel.marks)
    # steps 1 and 3 of 5, the middle two of six layers
    assert marked.marks == {cached.cache.short: ((2, 0), (3, 0), (2, 2), (3, 2))}
    heading = f"reused by {cached.cache.short}"
    assert [line[heading] for line in found.summary[:2]] == [None, None]
    mean = np.mean([near[i, j] for i, j in marked.marks[cached.cache.short]])
    assert found.summary[2][heading] == pytest.approx(1 - mean)
    assert any(note.startswith("digits less digits-skip: ") for note in found.notes)


def test_one_sample_without_guidance(small, tmp_path):
    run = small("digits", num_samples=1, batch_size=1, guidance="none")
    found = dynamics.measure([run], Options(root=tmp_path), layers=[0])
    assert [line["half"] for line in found.summary] == ["all"]
    assert found.summary[0]["95 % interval"] is None
    assert len(found.panels) == 2


def test_what_was_stopped_goes_on_to_the_same_bits(small, stopping, tmp_path):
    run = small("digits")
    whole = dynamics.measure([run], Options(root=tmp_path / "whole"))
    options, told = stopping(1)
    with pytest.raises(KeyboardInterrupt):
        dynamics.measure([run], options)
    options, again = stopping(-1)
    assert dynamics.measure([run], options).panels == whole.panels
    assert (told, again) == ([0, 1], [1, 2])
    assert not [*(tmp_path / "analysis" / "parts").rglob("*.safetensors")]
