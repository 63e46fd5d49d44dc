"""What a model is given at chosen steps, and intervals of few values."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skipdit_cli.analyze import inputs, intervals
from skipdit_cli.analyze.parts import Parts
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate import conditioning
from skipdit_cli.generate.batch import latents_of
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import runs
from skipdit_cli.score.certainty import interval_of_mean


def run_of(model="digits", **settings):
    return runs.make_run(
        model, "none", {"steps": "3", "num_samples": 3, "batch_size": 2, **settings}
    )


@pytest.mark.parametrize(
    ("steps", "expected"),
    [("50", (5, 25, 50)), ("10", (1, 5, 10)), ("3", (1, 2, 3)), ("2", (1, 2)), ("1", (1,))],
)
def test_the_steps_that_are_looked_at(steps, expected):
    assert inputs.steps_at(run_of(steps=steps), None) == expected


def test_steps_are_counted_from_one():
    run = run_of(steps="50")
    assert inputs.steps_at(run, [50, 1, 50]) == (1, 50)
    asked = inputs.asked(run, (1, 50), Options(root=None), None)
    assert asked.timesteps == (run.timesteps[0], run.timesteps[-1])
    for step in (0, 51):
        with pytest.raises(UsageError, match=rf"^--at: digits has no step {step}; take .* 1 to 50"):
            inputs.steps_at(run, [step])


@pytest.mark.parametrize("guidance", ["2.0", None])
def test_what_is_recorded_is_what_a_generation_gives_the_model(tmp_path, guidance):
    """Latents, timesteps and classes of both halves; asked again, the model says the same."""
    run, options = run_of(guidance=guidance and float(guidance)), Options(root=tmp_path)
    with Parts("test", options, title="").held() as parts:
        asked = inputs.asked(run, (1, 3), options, parts.folder)
        assert asked.batches == [range(2), range(2, 3)]
        inputs.recording(asked, parts)
        with inputs.model_of(asked) as model:
            for indices in asked.batches:
                found = inputs.recorded(asked, indices, model)
                latents, outputs = generated(run, indices, model, tmp_path)
                given, null = conditioning.of_batch(run, indices, root=tmp_path)
                halves = 2 if run.guided else 1
                classes = torch.cat([given["class_labels"], null["class_labels"]][:halves])
                assert [*found] == [1, 3]
                for step, each in found.items():
                    x = torch.cat([latents[step - 1]] * halves)
                    assert torch.equal(each["hidden_states"], x)
                    assert each["timestep"].tolist() == [run.timesteps[step - 1]] * len(x)
                    assert torch.equal(each["class_labels"], classes)
                    assert torch.equal(inputs.called(model, each), outputs[step - 1][:, :1])


def generated(run, indices, model, root):
    """What a batch has for latents before every step, and what the model gives."""
    latents, outputs = [], []
    handle = model.register_forward_hook(lambda module, args, out: outputs.append(out[0]))
    keep = lambda session, x: latents.append(x.clone())
    latents_of(run, indices, model=model, root=root, on_step=keep)
    handle.remove()
    return latents, outputs


def test_a_mean_over_halves():
    values = torch.tensor([[1.0, 2.0, 3.0, 6.0]])  # samples a, b; then their null halves
    assert inputs.by_sample(run_of(), values).tolist() == [[2.0, 4.0]]
    assert inputs.by_sample(replace(run_of(), guidance=None), values).tolist() == values.tolist()


def test_what_is_not_finite():
    with pytest.raises(SkipditError, match=r"^digits: what it computes is not finite; take less"):
        inputs.finite(run_of(), torch.tensor([1.0, torch.inf]), "take less")


def test_what_differs_is_told_of_each():
    assert inputs.alike([[5, 50], [5, 50]]) == [5, 50]
    assert inputs.alike([[5, 50], [1, 10]]) == [[5, 50], [1, 10]]


def test_an_interval_of_few_values_by_hand():
    """1, 2, 3: a standard error of 1 / sqrt 3, and Student's t of two degrees is 4.3027."""
    values = np.array([1.0, 2.0, 3.0])
    low, high = intervals.interval(values)
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert high - low > 2 * np.ptp(interval_of_mean(values))
    assert intervals.interval(values[:1]) is None
    factors = intervals.factor_interval(np.exp(values))
    assert factors == pytest.approx((np.exp(low), np.exp(high)))


def test_what_overlaps_is_not_told_apart():
    assert intervals.apart((0, 1), (2, 3))
    assert intervals.apart((2, 3), (0, 1))
    assert not intervals.apart((0, 2), (1, 3))
    assert not intervals.apart((0, 3), (1, 2))
    assert not intervals.apart(None, (1, 2))
