"""Studies: what a sweep leaves, made again from disk, gone on with, and put together."""

import csv
import io
import json
import re
import shutil

import pytest

FAST = "--steps 4 --num-samples 2 --repeats 0"


@pytest.fixture
def root(swept, tmp_path):
    """A copy of what a sweep made: none, n=2 and n=3 of digits-skip, three samples each."""
    return shutil.copytree(swept[0], tmp_path / "results")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def keys(skipdit, *specs):
    """The key of the run of every spec."""
    runs = json.loads(skipdit("ls runs --json").ok().out)
    found = [[run["key"] for run in runs if run["cache"].startswith(spec)] for spec in specs]
    assert [len(each) for each in found] == [1] * len(specs)
    return [each[0] for each in found]


def test_a_study_is_made_again_from_disk(skipdit, root, swept):
    folder = root / "sweeps" / "digits-skip"
    before = files(folder)
    for name in before.keys() - {"study.json"}:
        (folder / name).unlink()
    again = skipdit("report digits-skip").ok()
    assert again.out == swept[1].out
    assert files(folder) == before


def test_a_sweep_that_was_cut_off_is_reported_as_far_as_it_came(skipdit, root, table):
    _, second, third = keys(skipdit, "none", "skip-cache(n=2", "skip-cache(n=3")
    shutil.rmtree(root / "samples" / third)
    shutil.rmtree(root / "scores" / third)
    lines = table(skipdit("report digits-skip").ok().out)
    assert [line["PSNR (dB) ↑"] == "not run" for line in lines] == [False, False, True]
    shutil.rmtree(root / "scores" / second)
    empty = skipdit("report digits-skip --json")
    assert empty.code == 0  # the uncached run has its timing and accuracy


def test_tables_with_numbers_do_not_give_way_to_one_without(skipdit, root):
    shutil.rmtree(root / "scores")
    before = files(root / "sweeps" / "digits-skip")
    done = skipdit("report digits-skip")
    done.failed(1, "sweep.csv: it has numbers, and nothing of these")
    assert "| skip-cache n=2 " in done.out  # printed all the same
    assert files(root / "sweeps" / "digits-skip") == before


@pytest.mark.slow
def test_another_study_of_a_model_has_a_number(skipdit, root, table):
    before = files(root / "sweeps" / "digits-skip")
    done = skipdit(f"cache-sweep --model digits-skip --cache fora(n=2) {FAST}").ok()
    assert (
        "study digits-skip-2: digits-skip is another one and stays; --name digits-skip adds"
        in done.err
    )
    assert files(root / "sweeps" / "digits-skip") == before
    assert (root / "sweeps" / "digits-skip-2" / "sweep.md").is_file()
    done = skipdit(f"cache-sweep --model digits-skip --cache fora(n=2..3) {FAST}").ok()
    assert "wrote results/sweeps/digits-skip-2/sweep.md" in done.err  # loses nothing by it
    listed = table(skipdit("ls studies").ok().out)
    assert [(line["study"], line["runs"]) for line in listed] == [
        ("digits-skip", "2"),
        ("digits-skip-2", "2"),
    ]


def test_a_study_grows_by_its_name(skipdit, root, table, samples):
    """One more method and more samples; model, steps and batch are those of the study."""
    before = samples(root)
    grown = "cache-sweep --name digits-skip --cache fora(n=2) --num-samples 4 --repeats 0"
    done = skipdit(grown).ok()
    assert "study digits-skip: 2 runs are in it, 1 more now" in done.err
    lines = table(done.out)
    assert [line["cache"] for line in lines] == [
        *("no cache (n=1)", "skip-cache n=2", "skip-cache n=3", "fora n=2"),
    ]
    assert done.out.startswith("# digits-skip: 4 samples, ddim 6, guidance 2, seed 0, batch size 2")
    after = samples(root)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) // 3 * 4 + 4
    assert skipdit("report digits-skip").ok().out == done.out


@pytest.mark.slow
def test_earlier_timings_stay_with_the_study_that_stands_on_them(skipdit, root, table):
    printed = skipdit("report digits-skip").ok().out
    skipdit(
        "cache-sweep --name other --model digits-skip --cache skip-cache(n=2) --steps 6 "
        "--num-samples 3 --batch-size 2 --repeats 2"
    ).ok()
    assert skipdit("report digits-skip").ok().out == printed
    series = [
        line
        for name in ("digits-skip", "other")
        for line in skipdit(f"report {name}").ok().out.splitlines()
        if line.startswith("- Timings: series ")
    ]
    assert len(set(series)) == 2


def test_runs_by_their_keys(skipdit, root, table):
    second, third = keys(skipdit, "skip-cache(n=2", "skip-cache(n=3")
    lines = table(skipdit(f"report --runs {second[:8]}").ok().out)
    assert [line["cache"] for line in lines] == ["no cache (n=1)", "skip-cache n=2"]
    assert not (root / "sweeps" / "mine").exists()
    skipdit(f"report --runs {second} --name mine").ok()
    (line,) = (line for line in table(skipdit("ls studies").ok().out) if line["study"] == "mine")
    assert sorted(line["metrics"].split(", ")) == ["accuracy@digits", "psnr", "ssim"]
    added = skipdit(f"report mine --add {third}").ok()
    assert [line["cache"] for line in table(added.out)] == [
        *("no cache (n=1)", "skip-cache n=2", "skip-cache n=3"),
    ]
    assert skipdit("report mine").ok().out == added.out
    text = (root / "sweeps" / "mine" / "sweep.csv").read_text()
    (row, *_) = csv.DictReader(io.StringIO(text))
    assert row["spec"] == "none"
    grown = skipdit("cache-sweep --name mine --cache fora(n=2) --repeats 0").ok()
    assert [line["cache"] for line in table(grown.out)] == [  # with the settings of its runs
        *("no cache (n=1)", "skip-cache n=2", "skip-cache n=3", "fora n=2"),
    ]


def test_settings_that_differ_are_in_the_labels(skipdit, root, table):
    for seed in (1, 2):
        skipdit(f"sample --model digits-skip --steps 4 --num-samples 1 --seed {seed}").ok()
    runs = json.loads(skipdit("ls runs --json").ok().out)
    wanted = ",".join(run["key"] for run in runs if run["run"]["steps"] == "4")
    lines = table(skipdit(f"report --runs {wanted}").ok().out)
    assert [line["cache"] for line in lines] == ["no cache (n=1) seed=1", "no cache (n=1) seed=2"]


def test_specs_within_a_study(skipdit, root, table):
    """Of two runs of one spec, the study's is meant."""
    skipdit("sample --model digits-skip --cache skip-cache(n=2) --steps 4 --num-samples 1").ok()
    both = "compare skip-cache(n=2) skip-cache(n=3) --metric psnr"
    skipdit(both).failed(2, "results: skip-cache(n=2) is ambiguous")
    (line,) = table(skipdit(f"{both} --study digits-skip").ok().out)
    assert line["n"] == "3"
    assert table(skipdit("compare --study digits-skip --metric psnr").ok().out) == [line]
    skipdit("compare --study nonsuch").failed(2, "--study: unknown study 'nonsuch'")
    skipdit("compare skip-cache(n=2) --study digits-skip").failed(2, "nothing to compare with")


def test_all_runs_of_a_study_are_given_away(skipdit, root, tmp_path):
    skipdit("sample --model digits-skip --cache skip-cache(n=2) --steps 4 --num-samples 1").ok()
    skipdit("export --study digits-skip --out given").ok()
    assert len(list((tmp_path / "given").glob("*/0002.png"))) == 3
    skipdit("export --study digits-skip none --out alone").ok()
    assert (tmp_path / "alone" / "0002.png").is_file()
    skipdit("export --out given").failed(2, "skipdit export: no run is named; name runs by key")


def test_a_study_of_code_that_has_changed(skipdit, root, monkeypatch):
    from skipdit_cli import run

    monkeypatch.setattr(run, "LOOP", run.LOOP + 1)
    done = skipdit("report digits-skip")
    assert done.code == 1
    assert done.remarks == [
        "skipdit: warning: study digits-skip: 2 of 2 runs were made by code that has changed "
        "since; `skipdit cache-sweep --name digits-skip` makes them anew",
        "skipdit: results/sweeps/digits-skip/sweep.csv: it has numbers, and nothing of these "
        "settings is scored or timed; give the settings that it was made with, as --set, or "
        "remove it",
    ]
    again = skipdit("cache-sweep --name digits-skip --repeats 0").ok()
    assert "sampling digits-skip, 3 runs" in again.err


def test_mistakes(skipdit, root):
    skipdit("report nonsuch").failed(2, "unknown recipe or study 'nonsuch'; known: ", "digits-skip")
    skipdit("report digits-skp").failed(2, "did you mean 'digits-skip'?")
    skipdit("report digits-skip --check").failed(2, "--check is for recipes")
    skipdit("report table1 --add 1234").failed(2, "--add: table1 is a recipe")
    skipdit("report table1 --name mine").failed(2, "--name is for studies")
    skipdit("report digits-skip --name mine").failed(2, "--name: the study is named twice")
    skipdit("report --runs none").failed(2, "unknown run 'none'")
    key = keys(skipdit, "none")[0]
    skipdit(f"report --runs {key} --name digits-skip").failed(
        2, "--name: there is a study digits-skip; take another name, or `skipdit report digits-skip"
    )
    skipdit(f"report --runs {key} --format md").failed(2, "--format: a file needs a name")
    skipdit(f"report --add {key}").failed(2, "skipdit report: one of the two is wanted")
    skipdit("cache-sweep --name table1").failed(2, "--name: 'table1' is a recipe")
    skipdit("cache-sweep --name ../x").failed(2, "--name: '../x' cannot be the name of a study")
    skipdit("cache-sweep table1 --name x").failed(2, "--name cannot be combined with a recipe")
    (root / "sweeps" / "old").mkdir()
    skipdit("cache-sweep --name old --repeats 0").failed(2, "old is there and is no study")


def test_fewer_samples_than_a_study_has_are_refused(skipdit, root):
    before = files(root / "sweeps" / "digits-skip")
    skipdit("cache-sweep --name digits-skip --num-samples 2 --repeats 0").failed(
        2, "--num-samples 2: study digits-skip has 3 samples of each run; give as many or more"
    )
    assert files(root / "sweeps" / "digits-skip") == before


def test_scores_of_fewer_samples_leave_those_of_more(skipdit, root, swept, table):
    """Another study of two samples scores these; that of three is tabulated as it was."""
    given = "--model digits-skip --n 2 --steps 6 --batch-size 2 --repeats 0"
    few = skipdit(f"cache-sweep {given} --num-samples 2 --name few").ok()
    assert few.out.startswith("# digits-skip: 2 samples")
    assert skipdit("report digits-skip").ok().out == swept[1].out
    again = skipdit(f"cache-sweep {given} --num-samples 3 --name three").ok().out
    psnr, same = (table(out)[1]["PSNR (dB) ↑"] for out in (swept[1].out, again))
    assert psnr == same


def test_a_number_of_fewer_samples_than_its_run_is_marked(skipdit, root, table):
    skipdit("sample --model digits-skip --steps 6 --batch-size 2 --num-samples 4").ok()
    path = root / "sweeps" / "digits-skip" / "study.json"
    from skipdit_cli.score import study

    kept = study.read(root, "digits-skip")
    study.write(root, kept.with_runs((), num_samples=4))
    assert path.is_file()
    out = skipdit("report digits-skip").ok().out
    assert out.startswith("# digits-skip: 4 samples")
    assert "1. of 3 samples, and the run has 4\n" in out
    (line,) = (line for line in table(out) if line["cache"] == "skip-cache n=2")
    assert line["PSNR (dB) ↑"].endswith(" [1]")


def test_two_sweeps_of_one_study_both_stay_in_it(root):
    """Each read it before the other wrote."""
    from skipdit_cli.recipe.runs import make_run
    from skipdit_cli.score import study

    first, second = (study.read(root, "digits-skip") for _ in range(2))
    settings = {"steps": "6", "num_samples": 3, "batch_size": 2}
    runs = [make_run("digits-skip", spec, settings) for spec in ("fora(n=2)", "fora(n=3)")]
    study.write(root, first.with_runs(runs[:1]))
    kept = study.write(root, second.with_runs(runs[1:]))
    assert {run.key for run in runs} <= kept.keys == study.read(root, "digits-skip").keys


@pytest.mark.slow
def test_a_study_goes_on_with_its_own_metrics(skipdit, root, table):
    given = f"cache-sweep --model digits-skip --name one --metrics psnr {FAST}"
    skipdit(f"{given} --cache fora(n=2)").ok()
    (line, _) = table(skipdit("cache-sweep --name one --cache fora(n=3) --repeats 0").ok().out)[1:]
    assert [name for name in line if "PSNR" in name or "SSIM" in name] == ["PSNR (dB) ↑"]


def test_a_study_whose_file_is_damaged_says_where_its_runs_are(skipdit, root):
    (root / "sweeps" / "digits-skip" / "study.json").write_text("{}")
    done = skipdit("report digits-skip")
    assert done.code == 2
    assert "report --runs KEY,KEY --name NEW` makes another study of them" in done.remarks[-1]


@pytest.mark.slow
def test_figures_for_a_paper_and_pictures_for_a_screen_stay_apart(skipdit, root):
    folder = root / "sweeps" / "digits-skip"
    skipdit("report digits-skip --figure png,pdf").ok()
    paper = (folder / "sweep-psnr-speedup-paper.png").read_bytes()
    done = skipdit("report digits-skip")
    assert re.search(r"\d figures are of an earlier table; give --figure to draw", done.remarks[0])
    assert (folder / "sweep-psnr-speedup-paper.png").read_bytes() == paper
    assert (folder / "sweep-psnr-speedup.png").read_bytes() != paper
