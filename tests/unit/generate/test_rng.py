"""Noise belongs to (seed, sample, step) and to nothing else."""

import json
import subprocess
import sys

import pytest
import torch

from skipdit_cli.errors import UsageError
from skipdit_cli.generate import rng

# The first four numbers of some streams, from numpy 2.4. A numpy that draws other numbers would
# silently change every sample, so it has to fail here.
GOLDEN = {
    (0, 0, -1): [0.1592954695224762, -1.77418851852417, 1.3265118598937988, 1.2048090696334839],
    (0, 0, 0): [1.536428689956665, 0.5515010356903076, -0.8395909667015076, -0.21478271484375],
    (0, 1, 0): [
        -0.13969692587852478,
        -0.8496874570846558,
        -0.8315804600715637,
        0.19218090176582336,
    ],
    (1, 0, 0): [-0.3153532147407532, -0.684697687625885, -0.5759934186935425, -0.29292041063308716],
    (2**63 - 1, 49999, 249): [
        0.6742048263549805,
        -0.18726269900798798,
        -1.7845560312271118,
        -0.21043124794960022,
    ],
}


@pytest.mark.parametrize(("seed", "index", "step"), GOLDEN)
def test_golden_numbers(seed, index, step):
    noise = rng.normal((4,), seed=seed, index=index, step=step)
    assert noise.dtype == torch.float32
    assert noise.device.type == "cpu"
    assert noise.tolist() == GOLDEN[seed, index, step]


def test_golden_choices():
    drawn = [rng.choice(1000, seed=0, index=index) for index in range(8)]
    assert drawn == [620, 713, 520, 767, 661, 990, 18, 456]


@pytest.mark.slow
def test_another_process_draws_the_same():
    code = (
        "import json; from skipdit_cli.generate import rng;"
        "print(json.dumps(rng.normal((2, 3), seed=5, index=7, step=11).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert json.loads(done.stdout) == rng.normal((2, 3), seed=5, index=7, step=11).tolist()


def test_a_sample_does_not_depend_on_its_batch():
    shape = (3, 4, 4)
    alone = {i: rng.normal(shape, seed=9, index=i, step=2) for i in range(6)}
    for indices in ([0, 1, 2, 3, 4, 5], [5, 3, 1], [2], [4, 4]):
        batch = rng.batch_normal(shape, seed=9, indices=indices, step=2)
        assert batch.shape == (len(indices), *shape)
        for row, index in zip(batch, indices, strict=True):
            assert torch.equal(row, alone[index])


def test_drawing_leaves_torch_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    rng.normal((4,), seed=0, index=0, step=0)
    rng.choice(4, seed=0, index=0)
    assert torch.equal(before, torch.get_rng_state())


def test_all_streams_differ():
    """Also where the arguments are swapped, shifted by one, or beyond 32 bits."""
    numbers = (0, 1, 2, 2**32, 2**32 + 1)
    draws = {
        tuple(rng.normal((4,), seed=seed, index=index, step=step).tolist())
        for seed in numbers
        for index in numbers
        for step in (-1, *numbers)
    }
    assert len(draws) == 5 * 5 * 6


def test_choice_uses_no_noise_stream():
    """The stream of `choice` is the one no step can reach: the last value of the counter word."""
    words = {rng._CHOICE} | {step + 1 for step in range(-1, 1000)}
    assert len(words) == 1002
    first = rng._generator(0, 0, rng._CHOICE).integers(2**63)
    assert all(rng._generator(0, 0, step + 1).integers(2**63) != first for step in range(-1, 1000))


def test_mean_and_variance():
    """n = 200 streams of 1,000: the mean has a standard error of 1/sqrt(n), 0.0022, the variance
    one of sqrt(2/n), 0.0032, a correlation between neighbours one of 0.0022; bounds at 5 of them.
    """
    x = rng.batch_normal((1000,), seed=1, indices=range(200), step=0).double()
    assert abs(x.mean()) < 0.0112
    assert abs(x.var() - 1) < 0.0158
    assert abs((x[1:] * x[:-1]).mean()) < 0.0112  # neighbouring samples
    later = rng.batch_normal((1000,), seed=1, indices=range(200), step=1).double()
    assert abs((x * later).mean()) < 0.0112  # neighbouring steps


def test_choices_are_even():
    """10,000 draws of 10: each has mean 1,000 and standard deviation 30; bounds at 5 of them."""
    drawn = torch.tensor([rng.choice(10, seed=2, index=index) for index in range(10_000)])
    counts = torch.bincount(drawn, minlength=10)
    assert len(counts) == 10
    assert (counts - 1000).abs().max() < 150


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_a_usage_error(seed):
    with pytest.raises(UsageError, match=rf"seed: seed {seed} is out of range; take one from 0"):
        rng.normal((1,), seed=seed, index=0, step=0)
    with pytest.raises(UsageError):
        rng.choice(2, seed=seed, index=0)


def test_an_index_or_step_out_of_range_is_refused():
    with pytest.raises(ValueError, match="index -1"):
        rng.normal((1,), seed=0, index=-1, step=0)
    with pytest.raises(ValueError, match="step -2"):
        rng.normal((1,), seed=0, index=0, step=-2)
