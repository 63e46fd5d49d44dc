"""Hours and disk of runs whose counts are worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from skipdit_cli.checkpoints import catalog
from skipdit_cli.plan import estimate as estimates
from skipdit_cli.plan import plan
from skipdit_cli.plan.estimate import Estimate, estimate
from skipdit_cli.plan.rates import Machine, Measured
from skipdit_cli.profiling import counts
from skipdit_cli.recipe import recipe, runs
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage.store import open_store

H100 = Machine("H100", "h100")
CPU = Machine("a processor", "cpu")
TINY = {"num_samples": 10, "batch_size": 4, "guidance": None, "steps": "6"}


def slow(tflops, model="digits", work=1e7):
    return Machine("slow", "", (Measured("float32", model, work, tflops),))


def test_hours_are_operations_of_whole_batches_over_the_rate():
    run = make_run("digits", settings=TINY)
    one = plan.plan(run).flops
    found = estimate([(run, [])], slow(1e-6))
    assert found.sampling == pytest.approx(12 * one / 1e6 / 3600)  # 10 samples are three batches
    assert (found.samples, found.runs, found.decoding, found.timing) == (10, 1, 0, 0)
    assert found.hours == found.sampling
    assert found.sources == ("float32 1e-06 TFLOP/s, measured on digits",)


def test_nothing_is_said_of_hours_where_no_rate_is_known():
    run = make_run("digits", settings=TINY)
    found = estimate([(run, [])], CPU)
    assert (found.hours, found.lacks) == (None, ("float32", "digits"))
    assert found.disk["samples"] == 10 * 16 * 16 * 3


def test_decoding_is_that_of_a_strict_float32_autoencoder():
    settings = {"num_samples": 2, "batch_size": 2, "precision": "float16"}
    run = make_run("taichi", settings=settings)
    found = estimate([(run, [])], H100)
    per_frame = found.decoding * 3600 * 48e12 / (2 * 16)
    assert 5e11 < per_frame < 8e11  # of the decoder of Stable Diffusion at 256x256
    assert found.sampling == pytest.approx(2 * plan.plan(run).flops / 330e12 / 3600)
    assert found.hours == found.sampling + found.decoding


def test_what_is_there_already_is_left_out(tmp_path):
    run = make_run("digits", settings=TINY)
    machine = slow(1e-6)
    whole = estimate([(run, [])], machine, root=tmp_path)
    store = open_store(tmp_path, run)
    for index in (0, 1, 2, 3, 5):
        store.write(index, np.zeros((16, 16, 3), np.uint8), meta={})
    left = estimate([(run, [])], machine, root=tmp_path)
    assert left.samples == 5
    assert left.sampling == pytest.approx(whole.sampling * 2 / 3)  # two batches of three
    assert left.disk["samples"] == whole.disk["samples"] / 2
    more = estimate([(replace(run, num_samples=12), [])], machine, root=tmp_path)
    assert more.samples == 7


def test_a_run_counts_once_with_all_its_metrics_and_samples():
    run = make_run("digits", settings=TINY)
    machine = slow(1e-6)
    longer = replace(run, num_samples=20)
    both = estimate([(run, ["psnr"]), (longer, [])], machine)
    assert both.sampling == estimate([(longer, [])], machine).sampling
    assert both.runs == 1


def test_a_dynamic_method_takes_as_long_as_no_cache_at_most():
    run = make_run("digits", "first-block", TINY)
    found = estimate([(run, [])], slow(1e-6))
    assert found.at_most
    assert found.sampling == estimate([(run.reference, [])], slow(1e-6)).sampling


def test_timing_is_a_warm_up_and_the_repetitions():
    run = make_run("digits", settings=TINY)
    found = estimate([], slow(1e-6), timed=[run, run], repeats=3)
    assert found.timing == pytest.approx(4 * 4 * plan.plan(run).flops / 1e6 / 3600)
    assert estimate([], slow(1e-6), timed=[run], repeats=0).timing == 0


def test_scoring_that_takes_long_is_told_apart():
    run = make_run("moving-digits", "fora(n=2)", TINY)
    found = estimate([(run.reference, ["ssim"]), (run, ["ssim", "psnr"])], CPU).scoring
    seconds = 10 * 8 * 16 * 16 * 1.33 / (16 * 512**2)
    assert found == {"SSIM on a core": pytest.approx(seconds / 3600)}


@pytest.mark.slow
def test_scoring_at_full_size():
    settings = {"num_samples": 100, "prompts": ("a horse",)}
    video = make_run("latte-skip", "skip-cache(n=2)", settings)  # whose pixels alone matter
    found = estimate([(video.reference, ["ssim"]), (video, ["ssim", "vbench"])], H100)
    assert found.scoring["SSIM on a core"] == pytest.approx(100 * 1.33 / 3600)
    assert found.scoring["VBench on an H100"] == pytest.approx(12 * 100 / 4720)
    image = make_run("hunyuan-dit", "fora(n=2)", settings)
    (seconds,) = estimate([(image, ["ssim@videosys", "psnr"])], H100).scoring.values()
    assert seconds == pytest.approx(100 * 0.83 / 3600)


def test_disk_by_hand():
    settings = {"num_samples": 64, "batch_size": 8}
    run = make_run("taichi", settings=settings)
    disk = estimate([(run, ["fvd", "fid@frames"])], H100).disk
    pixels = 64 * 16 * 256 * 256
    assert disk == {
        "samples": pixels * 3,
        "previews": pixels // 8,
        "trajectories": 4 * 250 * 16_384 * 4,
        "features": 64 * (400 + 16 * 2048) * 4,
    }
    without = estimate([(run, ["fvd"])], H100, previews=False).disk
    assert "previews" not in without
    image = make_run("dit-xl-2", settings={"num_samples": 50_000})
    disk = estimate([(image, ["fid", "sfid", "inception-score", "recall"])], H100).disk
    assert disk["features"] == 50_000 * (2048 + 7 * 17 * 17 + 1008) * 4  # one network for all four
    assert "previews" not in disk


def test_prompts_are_embedded_once():
    """By an encoder that two models share."""
    (tokens, width), *others = counts.sizes(catalog.card("captioned-digits")).texts
    assert not others
    one = tokens * (4 * width + 8) + estimates.FILE
    settings = {"num_samples": 4, "batch_size": 4, "prompts": ("a one", "a two", "a one")}
    run, other = (make_run(f"captioned-digits{end}", settings=settings) for end in ("", "-skip"))
    disk = estimate([(run, []), (other, [])], CPU).disk
    assert disk["prompt embeddings"] == 3 * one  # two prompts and the negative one


@pytest.mark.slow
def test_prompts_are_embedded_once_for_all_runs_of_a_precision():
    """COCO's captions, for HunyuanDiT: 36 GB in float16."""
    run = make_run("hunyuan-dit", settings={"num_samples": 30_000, "batch_size": 1})
    cached = make_run("hunyuan-dit", "fora(n=2)", {"num_samples": 30_000, "batch_size": 1})
    disk = estimate([(run, []), (cached, [])], H100).disk["prompt embeddings"]
    numbers = 77 * 1024 + 256 * 2048
    assert disk == pytest.approx(30_001 * (numbers * 2 + (77 + 256) * 8), rel=0.01)
    assert round(disk / 1e9) == 36
    other = replace(run, precision="float32")
    both = estimate([(run, []), (other, [])], H100).disk["prompt embeddings"]
    assert both == pytest.approx(3 * disk, rel=0.01)
    few = make_run("hunyuan-dit", settings={"num_samples": 8, "prompts": ("a", "b", "a")})
    once = estimate([(few, [])], H100).disk["prompt embeddings"]
    assert once == pytest.approx(disk / 30_001 * 3)  # two prompts and the negative one


def test_gpus_side_by_side_share_all_but_the_timing():
    found = Estimate(H100, sampling=8.0, decoding=2.0, timing=1.0)
    assert (found.shared(1), found.shared(4)) == (11, 3.5)
    assert Estimate(H100, sampling=None).shared(4) is None


def test_a_precision_that_a_gpu_has_not(monkeypatch):
    run = make_run("taichi", settings={"num_samples": 1, "precision": "bfloat16"})
    found = estimate([(run, [])], Machine("V100", "v100"))
    assert (found.hours, found.lacks) == (None, ("bfloat16", "taichi"))


@pytest.mark.parametrize(
    ("name", "eflop"),
    [("table7", 17.9), pytest.param("table8", 44.7, marks=pytest.mark.slow)],
)
def test_the_operations_of_the_image_tables(name, eflop):
    """By multiply-accumulates, as the paper counts them; attention's products are 3.5 % more."""
    loaded = recipe.load_recipe(name, scale="paper")
    flops = macs = 0
    for _, _, run in runs.of_recipe(loaded):
        counted = plan.plan(run)
        flops += counted.flops * run.num_samples
        macs += 2 * counted.macs_paper * run.num_samples
    assert macs / 1e18 == pytest.approx(eflop, rel=0.005)
    assert 1.03 < flops / macs < 1.04
    found = estimate(runs.scored(loaded), H100)
    (rate,) = {run.precision for _, _, run in runs.of_recipe(loaded)}
    done = found.sampling * 3600 * H100.rate(rate, work=1e12).tflops * 1e12
    assert done == pytest.approx(flops, rel=0.001)  # whole batches are a few images more


def test_a_machine_whose_rate_is_known_knows_it_for_the_table_that_shares_runs(tmp_path):
    """Table 7 is four rows of Table 8: nothing is left of it where those are there."""
    seventh, eighth = (
        recipe.load_recipe(name, scale="paper", overrides=["num_samples=1", "batch_size=1"])
        for name in ("table7", "table8")
    )
    for _, _, run in runs.of_recipe(eighth):
        open_store(tmp_path, run).write(0, np.zeros((256, 256, 3), np.uint8), meta={})
    left = estimate(runs.scored(seventh), H100, root=tmp_path)
    assert (left.samples, left.hours) == (0, 0)
    assert math.isclose(left.disk["trajectories"], 4 * 250 * 4096 * 4)
    assert estimates.HOUR == 3600
