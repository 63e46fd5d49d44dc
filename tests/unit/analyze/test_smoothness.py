"""Smoothness: directions, moved weights, and the surfaces that come of them."""

import copy
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from skipdit_cli.analyze import inputs, perturb, smoothness
from skipdit_cli.analyze.smoothness import Surfaces, measure
from skipdit_cli.checkpoints import networks
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate import conditioning, rng
from skipdit_cli.generate.batch import latents_of
from skipdit_cli.generate.local import Local
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import runs
from skipdit_cli.storage.analysis import Lines, Map

SMALL = {"grid": 3, "directions": 2, "radius": 0.3}


def run_of(model="digits", **settings):
    return runs.make_run(
        model, "none", {"steps": "3", "num_samples": 3, "batch_size": 2, **settings}
    )


def toy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(4, 5), nn.LayerNorm(5))


def test_every_filter_of_a_direction_has_the_norm_of_that_of_the_weights():
    model = toy()
    along = perturb.direction(model, seed=1, number=0)
    assert [*along] == ["0.weight", "1.weight"]  # no bias, no norm
    for name, (noise, scale) in along.items():
        weight = model.get_parameter(name).detach()
        assert noise.shape == weight.shape
        norms = [x.flatten(1).norm(dim=1) for x in (weight, noise.float() * scale)]
        assert torch.allclose(*norms, rtol=1e-5)
    assert along["0.weight"].scale.shape == (3, 1, 1, 1)


def test_directions_follow_seed_and_number_alone():
    same, again, other, seeded = (
        perturb.direction(toy(), seed=seed, number=number)["1.weight"].noise
        for seed, number in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert torch.equal(same, again)
    for different in (other, seeded):
        close = torch.cosine_similarity(same.float().flatten(), different.float().flatten(), dim=0)
        assert abs(close) < 0.7


def bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_are_moved_and_come_back_bit_for_bit():
    """After an error too, and as the same tensors."""
    model = toy()
    before, places = bits(model), [each.data_ptr() for each in model.parameters()]
    pair = [perturb.direction(model, seed=1, number=number) for number in (0, 1)]
    with perturb.moved(model, [(pair[0], 0.5), (pair[1], -0.25)]):
        for name in ("0.weight", "1.weight"):
            (n, a), (m, b) = (along[name] for along in pair)
            expected = before[name] + 0.5 * a * n.float() - 0.25 * b * m.float()
            assert torch.allclose(model.get_parameter(name), expected, atol=1e-6)
        assert torch.equal(model[2].weight, before["2.weight"])
        assert torch.equal(model[1].bias, before["1.bias"])
    assert unchanged(model, before)
    with pytest.raises(ZeroDivisionError), perturb.moved(model, [(pair[0], 0.5)]):
        raise ZeroDivisionError
    with pytest.raises(KeyError), perturb.moved(model, [({}, 0.5)]):
        pass
    assert unchanged(model, before)
    assert [each.data_ptr() for each in model.parameters()] == places


def test_a_filter_of_zeros_does_not_move():
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    with perturb.moved(model, [(perturb.direction(model, seed=0, number=0), 1.0)]):
        assert not model.weight.any()


@pytest.mark.slow
def test_a_model_whose_directions_are_zero_stays_as_similar_as_can_be(tmp_path, monkeypatch):
    nowhere = perturb.Filters(torch.zeros(1), torch.zeros(1))

    def direction(model, *, seed, number):
        return {name: nowhere for name, _ in model.named_parameters()}

    monkeypatch.setattr(smoothness, "direction", direction)
    found = measure([run_of()], Options(root=tmp_path), **SMALL)
    assert {value for each in maps(found) for row in each.values for value in row} == {1.0}
    assert [line["share above 0.95"] for line in found.summary] == [1.0] * 3
    assert [line["curvature"] for line in found.summary] == [0.0] * 3


def maps(found):
    return [panel for panel in found.panels if isinstance(panel, Map)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return measure([run_of()], Options(root=tmp_path_factory.mktemp("results")), **SMALL)


def test_at_the_origin_similarity_is_one(found):
    """And nowhere else."""
    assert len(maps(found)) == 3
    for each in maps(found):
        assert each.surface
        assert each.rows == ("0.3", "0", "-0.3")
        assert each.columns == ("-0.3", "0", "0.3")
        for i, row in enumerate(each.values):
            for j, value in enumerate(row):
                assert value == 1 if (i, j) == (1, 1) else value < 0.999


def test_a_surface_by_brute_force(found, tmp_path):
    """Whole copies of the model, all samples of all batches, one grid point after the other."""
    run = run_of()
    model = networks.load(run.card, path=None, device="cpu", dtype="float32")
    given = [latents(run, model, tmp_path, batch) for batch in (range(2), range(2, 3))]
    expected = np.zeros((3, 3, 3))
    for number in range(2):
        for i, beta in enumerate((0.3, 0, -0.3)):
            for j, alpha in enumerate((-0.3, 0, 0.3)):
                there = copy.deepcopy(model)
                for k, far in ((0, alpha), (1, beta)):
                    move(there, model, number=2 * number + k, far=far)
                expected[:, i, j] += similarity(model, there, given) / 2
    values = np.array([each.values for each in maps(found)])
    assert values == pytest.approx(expected, abs=1e-5)


def latents(run, model, root, batch):
    """Of a batch, per step: latents of both halves, and its classes."""
    steps = []

    def note(session, x):
        steps.append(torch.cat([x, x]))

    latents_of(run, batch, model=model, root=root, on_step=note)
    both = conditioning.of_batch(run, batch, root=root)
    return steps, torch.cat([half["class_labels"] for half in both])


def move(there, model, *, number, far):
    weights = [each for each in model.named_parameters() if each[1].dim() > 1]
    for i, (name, weight) in enumerate(weights):
        noise = rng.normal(weight.shape, seed=0, index=2**32 + number, step=i).half().float()
        rows = weight.detach().flatten(1), noise.flatten(1)
        ratio = rows[0].square().sum(dim=1).sqrt() / rows[1].square().sum(dim=1).sqrt()
        there.get_parameter(name).data += far * torch.einsum("i,i...->i...", ratio, noise)


@torch.no_grad()
def similarity(model, there, given):
    """The mean over halves and samples, by step."""
    times, means = run_of().timesteps, []
    for step, timestep in enumerate(times):
        cosines = []
        for steps, classes in given:
            x = steps[step]
            t = torch.full((len(x),), timestep)
            a, b = (m(x, t, classes).sample[:, :1].flatten(1) for m in (model, there))
            cosines.append(torch.cosine_similarity(a, b))
        means.append(torch.cat(cosines).mean().item())
    return np.array(means)


def test_the_same_seed_gives_the_same_bits(found, tmp_path):
    again = measure([run_of()], Options(root=tmp_path / "again"), **SMALL)
    assert again.panels == found.panels
    assert again.summary == found.summary
    other = measure([run_of(seed=5)], Options(root=tmp_path), **SMALL)
    assert other.panels != found.panels


@pytest.mark.slow
def test_several_processes_find_the_same(found, tmp_path):
    together = measure([run_of()], Options(root=tmp_path, engine=Local(2)), **SMALL)
    assert together.panels == found.panels


def test_what_was_stopped_is_of_as_many_samples(tmp_path):
    """A run's key does not say how many; a batch that is not full has other samples."""

    @contextmanager
    def stops(what):
        yield lambda done, total: (_ for _ in ()).throw(KeyboardInterrupt) if done == 2 else None

    with pytest.raises(KeyboardInterrupt):
        measure([run_of()], Options(root=tmp_path, stage=stops), **SMALL)
    found = measure([run_of(num_samples=4)], Options(root=tmp_path), **SMALL)
    assert found.settings["num_samples"] == 4


def test_what_was_stopped_goes_on(found, tmp_path):
    seen = []

    def stage(stop):
        @contextmanager
        def stages(what):
            def update(done, total):
                seen.append((what, done))
                if stop and (what, done) == ("analyzing smoothness: digits", 2):
                    raise KeyboardInterrupt

            yield update

        return stages

    with pytest.raises(KeyboardInterrupt):
        measure([run_of()], Options(root=tmp_path, stage=stage(stop=True)), **SMALL)
    assert [*tmp_path.rglob("*.safetensors")]
    seen.clear()
    again = measure([run_of()], Options(root=tmp_path, stage=stage(stop=False)), **SMALL)
    assert seen == [("analyzing smoothness: digits", done) for done in (2, 3, 4)]
    assert again.panels == found.panels
    assert not [*tmp_path.rglob("*.safetensors")]


def surfaces(values, model="digits", radius=0.5):
    asked = inputs.asked(run_of(model), (1,), Options(root=None), None)
    return Surfaces(asked, np.asarray(values), radius)


def plane(a, b, grid=5, radius=0.5):
    """1 - (a alpha^2 + b beta^2) of one direction, step and sample."""
    at = np.linspace(-radius, radius, grid)
    return (1 - (a * at**2 + b * at[:, None] ** 2))[None, None, ..., None]


def test_curvature_by_hand():
    """-2 a along one axis, -2 b along the other."""
    assert surfaces(plane(2, 3)).curvature(0) == pytest.approx([-5])
    both = surfaces(np.concatenate([plane(2, 3), plane(0, 1)]))
    assert both.curvature(0) == pytest.approx([-5, -1])


def test_the_share_above_by_hand():
    """1 - (alpha^2 + beta^2) / 5: of 25 points, only the corners and those beside are not above."""
    values = surfaces(plane(0.2, 0.2))
    points = np.linspace(-0.5, 0.5, 5)
    near = sum(x * x + y * y < 0.25 - 1e-9 for x in points for y in points)
    assert values.high(0) == pytest.approx([near / 25])


def test_rings_by_hand():
    """Points within half a spacing of a distance: 0; the eight about it; twelve of distance 2."""
    values = surfaces(plane(1, 1))
    squares = [0], [1] * 4 + [2] * 4, [4] * 4 + [5] * 8  # of distances, in spacings of a quarter
    expected = [1 - np.mean(each) / 16 for each in squares]
    assert values.rings(0) == pytest.approx(np.array([expected]))


def test_a_verdict_needs_intervals_apart():
    noise = np.array([0.9, 1, 1.1])[:, None, None, None, None]
    steep, flat = (surfaces(1 - noise * (1 - plane(a, a)), name) for a, name in SHAPES)
    (said,) = smoothness._verdicts([steep, flat])
    assert said.endswith("digits-skip is the smoother one.")
    (said,) = smoothness._verdicts([flat, steep])
    assert said.endswith("digits-skip is the smoother one.")
    (said,) = smoothness._verdicts([steep, surfaces(steep.values, "digits-skip")])
    assert said.endswith("which is the smoother one cannot be told.")
    one = surfaces(plane(9, 9)), surfaces(plane(0.1, 0.1), "digits-skip")
    (said,) = smoothness._verdicts(one)  # of one pair of directions there is no interval
    assert said.endswith("cannot be told.")


SHAPES = ((1, "digits"), (0.1, "digits-skip"))


def test_two_models_stand_side_by_side(tmp_path):
    both = [run_of(num_samples=1), run_of("digits-skip", num_samples=1)]
    found = measure(both, Options(root=tmp_path), at=[3], **SMALL)
    assert found.models == ("digits", "digits-skip")
    (curves,) = [panel for panel in found.panels if isinstance(panel, Lines)]
    assert [*curves.series] == [*curves.low] == ["digits", "digits-skip"]
    assert curves.at == (0, 0.3)
    assert all(values[0] == 1 for values in curves.series.values())
    assert [(line["model"], line["step"], line["timestep"]) for line in found.summary] == [
        ("digits", 3, 0),
        ("digits-skip", 3, 0),
    ]
    assert found.settings["at"] == [3]
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"grid": 4}, r"^--grid: 4 points have no origin among them; take an odd number"),
        ({"grid": 1}, "^--grid: 1 "),
        ({"directions": 0}, "^--directions: 0 is too few"),
        ({"radius": 0.0}, "^--radius: 0 is no radius"),
        ({"radius": float("nan")}, "^--radius: nan is no radius"),
        ({"at": [4]}, "^--at: digits has no step 4; take steps from 1 to 3"),
    ],
)
def test_what_cannot_be(tmp_path, given, said):
    with pytest.raises(UsageError, match=said):
        measure([run_of()], Options(root=tmp_path), **{**SMALL, **given})
    assert not [*tmp_path.iterdir()]


def test_what_is_not_finite_is_told(tmp_path):
    with pytest.raises(SkipditError, match=r"^digits: what it computes is not finite; take a smal"):
        measure([run_of()], Options(root=tmp_path), **{**SMALL, "radius": 1e38})
