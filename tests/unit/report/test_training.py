"""Training runs beside one another: ratios worked out by hand, and what has none."""

import json
import math

import pytest
from scipy.stats import t

from skipdit_cli.errors import UsageError
from skipdit_cli.report import training, training_figure, training_told
from skipdit_cli.report.look import SCREEN, WIDTHS
from skipdit_cli.report.training import Series, TrainingRun, compare, equal_quality, reached
from skipdit_cli.storage.training import LOG, SCORES, append

SLOW = ((100, 20.0), (200, 12.0), (400, 8.0))  # best at 400
FAST = ((100, 16.0), (200, 6.0), (400, 5.0))  # at 8 at 180: 100 + (16 - 8) / (16 - 6) * 100


def series(name, *curves, samples=500, skip=False):
    runs = (
        TrainingRun(name, scores, seed=seed, skip=skip, samples=frozenset({samples}))
        for seed, scores in enumerate(curves)
    )
    return Series(name, tuple(runs))


def put(folder, scores, *, metric="fid@digits", samples=500, card=None, **settings):
    for step, value in scores:
        append(folder / LOG, {"step": step, "loss": 1 / step})
        append(
            folder / SCORES,
            {"step": step, "metric": metric, "value": value, "samples": samples, "seconds": 1.0},
        )
    if settings:
        (folder / "training.json").write_text(json.dumps({"settings": settings}))
    if card:
        (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_the_ratio_is_taken_between_two_scores():
    found = equal_quality(series("a", SLOW), series("b", FAST), "lower")
    assert (found.state, found.level, found.first_steps) == ("reached", 8, 400)
    assert found.other_steps == pytest.approx(180)
    assert found.ratio == pytest.approx(400 / 180)
    assert (found.scored_steps, found.scored_ratio) == (200, 2)
    assert found.interval is None
    assert found.remark == ""


def test_higher_may_be_better():
    slow, fast = ((100, 0.2), (400, 0.6)), ((100, 0.5), (200, 0.7))
    found = equal_quality(series("a", slow), series("b", fast), "higher")
    assert (found.level, found.first_steps) == (0.6, 400)
    assert found.other_steps == pytest.approx(150)


def test_the_level_is_the_best_and_not_the_last_and_it_counts_where_it_is_first():
    curve = ((100, 9.0), (200, 7.0), (300, 7.0), (400, 11.0))
    found = equal_quality(series("a", curve), series("b", ((100, 8.0), (200, 6.0))), "lower")
    assert (found.level, found.first_steps, found.other_steps) == (7, 200, 150)


def test_the_first_time_counts_of_a_curve_that_goes_up_again():
    curve = [(100, 10.0), (200, 6.0), (300, 12.0), (400, 2.0)]
    assert reached(curve, 8.0, "lower") == 150
    assert reached(curve, 6.0, "lower") == 200
    assert reached(curve, 1.0, "lower") is None
    assert reached(curve, 10.0, "lower") == 100


def test_a_level_that_is_not_reached():
    found = equal_quality(series("b", FAST), series("a", SLOW), "lower")
    assert found.state == "not reached"
    assert (found.ratio, found.scored_ratio, found.other_steps) == (None, None, None)


def test_a_level_that_is_there_at_the_first_score():
    found = equal_quality(series("a", SLOW), series("b", ((50, 7.0), (100, 3.0))), "lower")
    assert (found.state, found.ratio) == ("at first score", None)
    assert (found.scored_steps, found.scored_ratio) == (50, 8)


def test_scores_before_training_divide_by_nothing():
    trained = series("b", ((0, 7.0), (100, 3.0)))
    found = equal_quality(series("a", SLOW), trained, "lower")
    assert (found.state, found.scored_steps, found.scored_ratio) == ("at first score", 0, None)
    worse = series("a", ((0, 1.0), (100, 3.0)))
    assert equal_quality(worse, trained, "lower").state == "not compared"


def test_scores_of_other_numbers_of_samples_are_not_compared():
    found = equal_quality(series("a", SLOW), series("b", FAST, samples=50), "lower")
    assert (found.state, found.ratio) == ("not compared", None)
    assert found.remark == "scores are of 50 and of 500 samples"


def test_two_seeds_have_an_interval():
    """Ratios of the seeds: 2 and 8, so that their logarithms are ln 4 +- ln 2."""
    slow = series("a", ((100, 20.0), (400, 8.0)), ((100, 20.0), (400, 8.0)))
    fast = series("b", ((50, 10.0), (200, 8.0), (400, 8.0)), ((49, 10.0), (50, 8.0), (200, 4.0)))
    found = equal_quality(slow, fast, "lower")
    # at the steps that both have: (50, 9), (200, 6)
    assert found.other_steps == pytest.approx(100)
    assert found.ratio == pytest.approx(4)
    off = t.ppf(0.975, 1) * math.log(2)  # s / sqrt(2) = ln 2
    assert found.interval == pytest.approx((4 * math.exp(-off), 4 * math.exp(off)))


def test_a_mean_over_seeds_and_its_interval():
    one, two = series("a", ((10, 4.0), (20, 1.0)), ((10, 2.0), (20, 1.0), (30, 0.5))).scores
    assert (one.step, one.value) == (10, 3)
    off = t.ppf(0.975, 1)  # s = sqrt(2), n = 2
    assert one.interval == pytest.approx((3 - off, 3 + off))
    assert (two.value, two.interval) == (1, (1, 1))


def test_seeds_that_are_not_the_same_are_not_paired():
    first, other = series("a", SLOW, SLOW), series("b", FAST, FAST, FAST)
    found = equal_quality(first, other, "lower")
    assert found.ratio == pytest.approx(400 / 180)
    assert (found.interval, found.remark) == (None, "no interval: the seeds are not the same")
    assert equal_quality(first, series("b", FAST), "lower").remark == ""


def test_a_seed_without_a_ratio_leaves_no_interval():
    late = ((100, 16.0), (200, 9.0), (400, 8.5))
    found = equal_quality(series("a", SLOW, SLOW), series("b", FAST, late), "lower")
    assert found.state == "reached"
    assert (found.interval, found.remark) == (
        None,
        "no interval: seed 1 has no ratio (not reached)",
    )


def test_the_published_ratio_comes_out_of_the_published_points():
    """4.4x: of 7M and 1.6M steps; at 9.49 between 800k (10.13) and 1.6M (9.07)."""
    found = training.of_paper()
    assert [each.name for each in found.series] == ["DiT-XL/2", "Skip-DiT"]
    assert "FID-50K" in found.source
    [pair] = found.pairs
    assert (pair.first, pair.level, pair.first_steps) == ("DiT-XL/2", 9.49, 7_000_000)
    assert f"{pair.scored_ratio:.1f}" == "4.4"
    assert pair.scored_steps == 1_600_000
    expected = 800_000 + (10.13 - 9.49) / (10.13 - 9.07) * 800_000
    assert pair.other_steps == pytest.approx(expected)
    assert pair.ratio == pytest.approx(5.456, abs=5e-4)


def test_runs_that_differ_in_their_seed_alone_are_one_series(tmp_path):
    folders = [
        put(tmp_path / f"run-{seed}", SLOW, model="digits", steps=400, seed=seed) for seed in (3, 1)
    ]
    found = compare([*folders, put(tmp_path / "more", FAST, model="digits", steps=800, seed=1)])
    assert [each.name for each in found.series] == ["run-3", "more"]
    assert [each.seeds for each in found.series] == [(1, 3), (1,)]
    assert len(found.pairs) == 1


def test_the_shortest_names_that_tell_runs_apart(tmp_path):
    folders = [
        put(tmp_path / "x" / "run", SLOW, model="digits", steps=1, seed=0),
        put(tmp_path / "y" / "run", SLOW, model="digits", steps=2, seed=0),
        put(tmp_path / "z", SLOW, model="digits-skip", steps=1, seed=0),
        put(tmp_path / "bare", SLOW),
    ]
    names = [each.name for each in compare(folders).series]
    assert names == [str(folders[0]), str(folders[1]), "digits-skip", "bare"]


@pytest.mark.parametrize(
    ("card", "model"),
    [
        ({"skip": True}, "mine"),
        ({"family": "hunyuan_dit", "skip": False}, "mine"),
        (None, "digits-skip"),
        (None, "painted-digits"),
    ],
)
def test_the_run_without_skip_branches_gives_the_level(tmp_path, card, model):
    skip = put(tmp_path / "skip", FAST, model=model, seed=0, card=card)
    plain = put(tmp_path / "plain", SLOW, model="digits", seed=0, card={"skip": False})
    for given in ([skip, plain], [plain, skip]):
        [pair] = compare(given).pairs
        assert (pair.first, pair.other) == ("digits", model)
    other = put(tmp_path / "other", SLOW, model="other", seed=0)
    [pair] = compare([other, plain]).pairs
    assert (pair.first, pair.other) == ("other", "digits")


def refused(*given, metric=None):
    with pytest.raises(UsageError) as error:
        compare([*given], metric)
    return str(error.value)


def test_mistakes(tmp_path):
    run = put(tmp_path / "run", SLOW, model="digits", seed=0)
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    told = refused(tmp_path / "none", run)
    assert told.startswith(f"{tmp_path / 'none'}: no such folder; name the folder of a training")
    assert "is a file, not the folder of a run" in refused(tmp_path / "file")
    assert "is not the folder of a training" in refused(tmp_path / "empty")
    append(tmp_path / "unscored" / LOG, {"step": 10, "loss": 1.0})
    told = refused(run, tmp_path / "unscored")
    assert told.startswith(f"{tmp_path / 'unscored'}: it was not scored while it was trained")
    assert told.endswith("give --eval fid@digits --eval-every 200 to skipdit train")
    assert compare([put(tmp_path / "null", [(10, None)])]).of_losses
    copy = put(tmp_path / "copy", SLOW, model="digits", seed=0)
    assert f"{copy}: is the same training as {run}, seed 0" in refused(run, copy)
    apart = put(tmp_path / "apart", [(150, 1.0)], model="digits", seed=1)
    assert "no step of which all seeds have a number" in refused(run, apart)
    unknown = put(tmp_path / "unknown", SLOW, metric="fud")
    assert "fud is no metric here" in refused(unknown)


def test_the_metric_is_the_one_that_all_have(tmp_path):
    run = put(tmp_path / "run", SLOW, model="digits", seed=0)
    put(run, ((100, 0.5),), metric="accuracy@digits")
    both = "scored by several metrics; give --metric, one of accuracy@digits, fid@digits"
    assert both in refused(run)
    assert compare([run], "accuracy@digits").heading.better == "higher"
    other = put(tmp_path / "other", SLOW, model="digits-skip", seed=0)
    assert compare([run, other]).heading.metric == "fid@digits"
    told = refused(run, other, metric="accuracy@digits")
    assert told.startswith(f"{other}: no score by accuracy@digits, but by fid@digits; ")
    assert "unknown score 'fid'; known: accuracy@digits, fid@digits" in refused(run, metric="fid")
    third = put(tmp_path / "third", SLOW, metric="accuracy@digits")
    assert "by no metric that all have" in refused(other, third)


def test_the_same_folder_twice_counts_once(tmp_path):
    run = put(tmp_path / "run", SLOW, model="digits", seed=0)
    assert len(compare([run, run]).series) == 1


def told(first, other, better="lower"):
    found = training.Training(
        training.metric_heading("fid@digits"),
        (first, other),
        (equal_quality(first, other, better),),
    )
    return training_told.to_markdown(found)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            ((100, 16.0), (200, 6.0)),
            "400 / 180 = 2.22x for b; 400 / 200 = 2.00x by its scored steps alone.",
        ),
        (((100, 9.0),), "not reached by b."),
        (((50, 7.0),), "b is there at its first score: at least 400 / 50 = 8.00x."),
        (((0, 7.0),), "b is there at its first score, before it is trained."),
    ],
)
def test_what_is_said_of_a_pair(other, said):
    shown = told(series("a", SLOW), series("b", other))
    assert f"- FID@digits 8.00, the best of a (step 400): {said}" in shown


def test_what_is_said_of_what_is_not_compared():
    shown = told(series("a", SLOW), series("b", FAST, samples=5))
    assert "no ratio to b, for scores are of 5 and of 500 samples." in shown


def test_csv_has_every_number_of_every_seed(tmp_path):
    folders = [put(tmp_path / f"r{s}", SLOW, model="digits", seed=s) for s in (0, 1)]
    lines = training_told.to_csv(compare(folders)).splitlines()
    assert lines[0] == "step,run,metric,value,low,high"
    assert lines[1] == "100,digits,fid@digits,20,20,20"
    assert "400,digits,loss,0.0025,0.0025,0.0025" in lines
    assert '200,"digits, seed 1",fid@digits,12,,' in lines
    assert len(lines) == 1 + 3 * 2 * 3


@pytest.mark.parametrize("look", [SCREEN, WIDTHS["column"], WIDTHS["page"]])
def test_the_figure(tmp_path, look):
    folders = [
        put(tmp_path / f"{m}{s}", curve, model=m, seed=s)
        for m, curve in (("digits", SLOW), ("digits-skip", FAST))
        for s in (0, 1)
    ]
    with look.applied():
        made = training_figure.draw(compare(folders), look)
        made.draw_without_rendering()
    loss, score = made.axes
    assert [line.get_label() for line in loss.lines] == ["digits", "digits-skip"]
    assert loss.lines[0].get_ydata() == pytest.approx([0.01, 0.005, 0.0025])
    assert score.lines[1].get_ydata() == pytest.approx([16, 6, 5])
    assert score.lines[2].get_xdata() == pytest.approx([180, 400])
    assert [text.get_text() for text in score.texts] == ["2.22x"]
    assert len(score.collections) == 2
    side_by_side = loss.get_position().y0 == pytest.approx(score.get_position().y0, abs=0.01)
    assert side_by_side == (look.width > 5)


def test_a_figure_without_losses_has_one_panel():
    with SCREEN.applied():
        made = training_figure.draw(training.of_paper(), SCREEN)
    assert len(made.axes) == 1
    assert [text.get_text() for text in made.axes[0].texts] == ["5.46x"]
