"""A sweep, with the network replaced by a stub: its plan, its order, its failures, its timings."""

import errno
import os
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from skipdit_cli.checkpoints import local
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, SkipditError, StoreError, UsageError, of_run
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.specs import specs
from skipdit_cli.score import sweep, timing
from skipdit_cli.storage import failures, results
from skipdit_cli.storage.store import open_store

SETTINGS = {"num_samples": 2, "batch_size": 2, "steps": 4}


def run(cache="none", model="digits-skip", **settings):
    return runs.make_run(model, cache, {**SETTINGS, **settings})


@pytest.fixture
def said():
    """Every stage that was opened, and every progress that was made in it."""
    return []


@pytest.fixture
def options(tmp_path, said):
    @contextmanager
    def stage(text):
        said.append(text)
        yield lambda done, total: said.append((done, total))

    return Options(root=tmp_path, device="cpu", stage=stage, repeats=0)


@pytest.fixture
def generated(monkeypatch):
    """Runs in the order in which `generate` is called, which stores noise instead of samples.

    `generated.fail[cache]` is raised instead; `generated.told` has what each was told.
    """

    class Calls(list):
        def __init__(self):
            super().__init__()
            self.fail, self.told = {}, []

    calls = Calls()

    def generate(run, root, *, device, engine, weights_path, offload, previews, stage):
        calls.append(run)
        calls.told.append({"offload": offload, "previews": previews})
        if str(run.cache) in calls.fail:
            with memory_checked(run.batch_size):
                raise calls.fail[str(run.cache)]
        store = open_store(root, run)
        strength = 0 if run.is_reference else 8
        for i in range(run.num_samples):
            random = np.random.default_rng(i)
            frames = (8,) if run.card.task in ("c2v", "t2v") else ()
            image = random.integers(50, 200, (*frames, 16, 16, 3)) + strength
            store.write(i, image.astype(np.uint8), meta={"class": 3})
        with stage(f"sampling {run.model}, {run.cache.short}") as update:
            update(run.num_samples, run.num_samples)
        return store

    def generate_all(runs, root, **how):
        failures = {}
        for run in runs:
            try:
                generate(run, root, **how)
            except SkipditError as error:
                if not of_run(error):
                    raise
                failures[run.key] = error
        return failures

    monkeypatch.setattr("skipdit_cli.generate.samples.generate_all", generate_all)
    return calls


def swept(runs, options, *, metrics, profile=()):
    """A sweep in which every run is scored by the same metrics."""
    return sweep.sweep([(run, metrics) for run in runs], options, profile=profile)


@pytest.mark.parametrize(
    ("method", "n", "window", "expected"),
    [
        (None, None, None, []),
        (None, "2", None, ["skip-cache(n=2)"]),
        ("fora, pab", None, None, ["fora", "pab"]),
        ("skip-cache", "2..4", None, ["skip-cache(n=2)", "skip-cache(n=3)", "skip-cache(n=4)"]),
        ("skip-cache", "5,2", None, ["skip-cache(n=5)", "skip-cache(n=2)"]),
        ("skip-cache", None, "700-50", ["skip-cache(window=700-50)"]),
        (
            "skip-cache",
            "2,3",
            "700-50,800-50",
            [
                "skip-cache(n=2,window=700-50)",
                "skip-cache(n=2,window=800-50)",
                "skip-cache(n=3,window=700-50)",
                "skip-cache(n=3,window=800-50)",
            ],
        ),
        (
            "skip-cache, skip-cache",
            "2..3",
            None,
            ["skip-cache(n=2)", "skip-cache(n=3)", "skip-cache(n=2)", "skip-cache(n=3)"],
        ),
    ],
)
def test_specs_are_methods_by_intervals_by_windows(method, n, window, expected):
    assert specs(method, n=n, window=window) == expected


@pytest.mark.parametrize(
    ("method", "n", "window", "expected"),
    [
        (None, None, None, ["skip-cache(n=2)", "skip-cache(n=3)"]),
        ("fora,teacache", None, None, ["fora(n=2)", "fora(n=3)", "teacache"]),
        ("fora", "5", None, ["fora(n=5)"]),
        ("fora", None, "700-50", ["fora(window=700-50)"]),
    ],
)
def test_the_intervals_of_methods_that_have_one(method, n, window, expected):
    assert specs(method, n=n, window=window, otherwise="2..3") == expected


@pytest.mark.parametrize(
    ("method", "n", "window", "message"),
    [
        ("skip-cache", "6..2", None, "--n: range '6..2' runs backwards; write 2..6"),
        ("skip-cache", "0", None, "--n: n=0 is not an interval in 'skip-cache(n=0)'"),
        ("skip-cache", "", None, "--n: cannot read range ''"),
        ("skip-cache", "2", "50-700", "--window: window '50-700' must run from a higher"),
        ("skip-cache", "2", "700-50,", "--window: cannot read window ''"),
        ("skipcache", "2", None, "--method: unknown cache 'skipcache'; did you mean 'skip-cache'?"),
        ("skip-cache,", "2", None, "--method: unknown cache ''"),
        ("none", "2", None, "--n: none has no setting n; its settings are none"),
        ("none", None, "700-50", "--window: none has no setting window"),
    ],
)
def test_specs_that_cannot_be(method, n, window, message):
    with pytest.raises(UsageError) as caught:
        specs(method, n=n, window=window)
    assert str(caught.value).startswith(message)


def test_references_come_first_and_once(options, generated, said):
    cached = [run("skip-cache(n=2)"), run("skip-cache(n=3)"), run("skip-cache(n=2)", seed=1)]
    rows = swept(cached, options, metrics=["psnr"])
    wanted = [cached[0].reference, cached[2].reference, *cached]
    assert [row.run for row in rows] == wanted == generated
    assert [row.failure for row in rows] == [""] * 5
    assert [row.plan_row.cached_steps for row in rows] == [0, 0, 2, 2, 2]
    assert [row.results["psnr"].status for row in rows] == ["reference"] * 2 + ["ok"] * 3
    # every pixel differs by 8 of 255
    psnr = rows[2].results["psnr"]
    assert psnr.value == pytest.approx(20 * np.log10(255 / 8))
    assert psnr.n == 2
    assert said[:4] == [
        "sampling digits-skip, none",
        (2, 2),
        "sampling digits-skip, none",
        (2, 2),
    ]
    assert f"scoring digits-skip, {cached[0].cache}" in said


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("model", "encoders"), [("painted-digits", 2), ("captioned-digits-skip", 1)]
)
def test_prompts_are_encoded_before_the_first_sample_and_once(options, said, model, encoders):
    """Two samples with a prompt each, and the empty prompt of guidance: three for each encoder."""
    cached = [run("skip-cache(n=2)", model=model), run("skip-cache(n=3)", model=model)]
    rows = swept(cached, options, metrics=["psnr"])
    assert said[: 3 * encoders + 3] == [
        f"encoding the prompts of {model}",
        *((i + 1, 3 * encoders) for i in range(3 * encoders)),
        f"sampling {model}, 3 runs",
        (0, 6),
    ]
    assert said.count(f"encoding the prompts of {model}") == 1
    assert rows[1].results["psnr"].status == "ok"


def test_without_its_encoders_a_text_model_is_not_sampled(
    options, generated, monkeypatch, tmp_path
):
    cached = run("skip-cache(n=2)", model="painted-digits")
    (tmp_path / "painted-digits").mkdir()
    (tmp_path / "painted-digits" / local.WEIGHTS_FILE).touch()
    monkeypatch.setattr(shipped, "embedded", lambda: tmp_path)
    with pytest.raises(MissingAssetError, match="the tokenizer of painted-digits is not here"):
        swept([cached], options, metrics=["psnr"])
    assert generated == []


@pytest.mark.parametrize("option", ["offload", "previews"])
def test_how_samples_are_made_is_passed_on(options, generated, option):
    for value in (False, True):
        generated.told.clear()
        swept([run("skip-cache(n=2)")], replace(options, **{option: value}), metrics=[])
        assert [told[option] for told in generated.told] == [value] * 2


def test_a_failed_run_keeps_its_row_with_the_reason(options, generated):
    cached = [run(f"skip-cache(n={n})") for n in (2, 3, 4)]
    generated.fail[str(cached[1].cache)] = SkipditError("values that are not finite")
    rows = swept(cached, options, metrics=["psnr"])
    assert [row.failure for row in rows] == ["", "", "values that are not finite", ""]
    assert [set(row.results) for row in rows] == [{"psnr"}, {"psnr"}, set(), {"psnr"}]
    assert rows[2].plan_row.cached_steps == 2  # what it would have cost is known all the same


def test_without_its_reference_a_run_has_no_scores(options, generated):
    cached = [run("skip-cache(n=2)"), run("skip-cache(n=2)", seed=1)]
    generated.fail["none"] = SkipditError("a worker process died")
    rows = swept(cached, options, metrics=["psnr"])
    assert [row.failure for row in rows] == [
        *["a worker process died"] * 2,
        *["its uncached reference failed"] * 2,
    ]
    assert [row.results for row in rows] == [{}] * 4


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory(options, generated, error):
    cached = run("skip-cache(n=2)", batch_size=2)
    generated.fail[str(cached.cache)] = error
    rows = swept([cached], options, metrics=["psnr"])
    assert rows[1].failure == "out of memory at batch size 2; take a smaller --batch-size"
    assert rows[0].failure == ""


@pytest.mark.parametrize(
    "error",
    [
        StoreError("no space left on device", place="results"),
        MissingAssetError("the weights of digits-skip are not here"),
        UsageError("is truncated or not a checkpoint"),
        RuntimeError("a mistake in the program"),
    ],
)
def test_what_is_wrong_for_all_runs_alike_ends_the_sweep(options, generated, error):
    cached = [run(f"skip-cache(n={n})") for n in (2, 3)]
    generated.fail[str(cached[0].cache)] = error
    with pytest.raises(type(error)) as caught:
        swept(cached, options, metrics=["psnr"])
    assert caught.value is error
    assert cached[1] not in generated


def test_a_full_disk_while_scoring_ends_the_sweep(options, generated, monkeypatch):
    monkeypatch.setattr(os, "replace", _full)
    with pytest.raises(StoreError):
        swept([run("skip-cache(n=2)")], options, metrics=["accuracy@digits"])


def _full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def loops(monkeypatch):
    """(model, cache) of every denoising loop that is timed, by a clock that a loop moves on.

    A loop takes a second without cache and half of one with n=2.
    """
    called, now, allowed = [], [0.0], set()

    def loop_of(run, *, device, weights_path, offload):
        def body(cache, *, steps, brief=False):
            if loops.fail:
                raise loops.fail
            allowed.add((run.precision, torch.backends.cudnn.allow_tf32))
            if not brief:
                called.append((run.key, str(cache)))
                share = int(steps) / int(run.steps)
                now[0] += share if cache.name == "none" else share / 2

        return body

    class Loops(list):
        fail = None
        tf32 = allowed

    loops = Loops()
    called = loops
    monkeypatch.setattr("skipdit_cli.score.body.loop_of", loop_of)
    clock = type("Clock", (), {"perf_counter": staticmethod(lambda: now[0])})
    monkeypatch.setattr("skipdit_cli.profiling.latency.time", clock)
    monkeypatch.setattr(
        "skipdit_cli.profiling.latency.peak_bytes", lambda work, device: work() or 7
    )
    return loops


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_loops_are_timed_in_the_precision_of_the_run(options, loops, precision):
    options = replace(options, repeats=1)
    timed = replace(run("skip-cache(n=2)"), precision=precision)
    made = timing.time_together([timed], options)[timed.key]["latency"].provenance
    assert loops.tf32 == {(precision, precision == "tf32")}
    assert made["tf32_matmul"] is made["tf32_cudnn"] is (precision == "tf32")


def test_timings(options, generated, loops, said):
    cached = [run("skip-cache(n=2)"), run("skip-cache(n=3)")]
    rows = swept(cached, replace(options, repeats=3), metrics=[])
    reference, second, _ = rows
    assert reference.results["latency"].value == 1.0
    assert second.results["latency"].value == 0.5
    assert (reference.results["speedup"].value, second.results["speedup"].value) == (1.0, 2.0)
    assert second.results["speedup"].n == 3
    assert second.results["speedup"].reference == reference.run.key
    assert second.results["memory"].value == 7
    assert second.results["latency"].interval == (0.5, 0.5)
    assert second.results["latency"].scores == (0.5, 0.5, 0.5)
    assert len(loops) == 3 * (1 + 3)  # a warm-up and three repetitions of each of three
    assert said.index((12, 12)) < said.index("sampling digits-skip, none")
    assert said[0] == "timing digits-skip, 3 caches"


def test_timings_are_kept(options, generated, loops):
    cached, options = [run("skip-cache(n=2)")], replace(options, repeats=2)
    before = swept(cached, options, metrics=[])
    done = len(loops)
    assert [row.results for row in swept(cached, options, metrics=[])] == [
        row.results for row in before
    ]
    assert len(loops) == done
    swept(cached, replace(options, repeats=3), metrics=[])
    assert len(loops) == done + 2 * 4  # another number of repetitions is timed again


def test_timings_of_another_device_or_version_are_made_again(
    options, generated, loops, monkeypatch
):
    cached, options = [run("skip-cache(n=2)")], replace(options, repeats=1)
    swept(cached, options, metrics=[])
    done = len(loops)
    monkeypatch.setattr(timing, "_hardware", lambda device: "another processor, 1 threads")
    swept(cached, options, metrics=[])
    assert len(loops) == 2 * done
    monkeypatch.setattr(timing, "VERSION", timing.VERSION + 1)
    swept(cached, options, metrics=[])
    assert len(loops) == 3 * done


def test_a_sweep_that_grows_times_its_group_again(options, generated, loops):
    """Interleaving is what makes a speedup: one more row is timed with all the others."""
    options = replace(options, repeats=1)
    swept([run("skip-cache(n=2)")], options, metrics=[])
    loops.clear()
    swept([run("skip-cache(n=2)"), run("skip-cache(n=3)")], options, metrics=[])
    assert len({cache for _, cache in loops}) == 3


def test_earlier_series_stay_and_serve_again(options, generated, loops):
    options = replace(options, repeats=1)
    alone, both = [run("skip-cache(n=2)")], [run("skip-cache(n=2)"), run("skip-cache(n=3)")]
    first = timing.time_together(alone, options)[alone[0].key]["latency"]
    second = timing.time_together(both, options)[alone[0].key]["latency"]
    assert first.series != second.series
    found = results.timings(options.root, alone[0].key, "latency")
    assert sorted(found) == sorted([first.series, second.series])
    assert results.read_result(options.root, alone[0].key, "latency") == second
    loops.clear()
    assert timing.time_together([both[1]], options)[both[1].key]["latency"].series == second.series
    assert not loops
    third = timing.time_together(both, replace(options, repeats=2))[alone[0].key]["latency"]
    assert timing.time_together(both, options)[alone[0].key]["latency"] == second
    assert set(results.timings(options.root, alone[0].key, "latency")) == {
        *(first.series, second.series, third.series)
    }


def test_what_was_timed_apart_is_no_series(options, generated, loops):
    """A speedup holds within what was timed by turns."""
    options, (a, b) = replace(options, repeats=1), (run(f"skip-cache(n={n})") for n in (2, 3))
    timing.time_together([a], options)
    timing.time_together([b], options)
    loops.clear()
    timed = timing.time_together([a, b], options)
    assert loops
    assert len({timed[each.key]["latency"].series for each in (a, b)}) == 1


def test_every_run_is_scored_by_its_own_metrics_and_its_reference_by_all(options, generated):
    runs = [run("skip-cache(n=2)"), run("skip-cache(n=3)")]
    rows = sweep.sweep([(runs[0], ["psnr"]), (runs[1], ["ssim"])], options)
    assert [list(row.results) for row in rows] == [["psnr", "ssim"], ["psnr"], ["ssim"]]


def fewer_steps(steps):
    return run(steps=steps, reference_steps="4")


def test_fewer_steps_are_scored_and_timed_against_all_of_them(options, generated, loops):
    """Two of four steps take half the time; a plain run of two steps is timed beside itself."""
    options, cached, plain = replace(options, repeats=1), run("skip-cache(n=2)"), run(steps=2)
    rows = swept([cached, fewer_steps(2)], options, metrics=["psnr"])
    assert [row.label for row in rows] == ["no cache (n=1)", "skip-cache n=2", "no cache, 2 steps"]
    assert [row.results["speedup"].value for row in rows] == [1, 2, 2]
    assert [row.results["psnr"].status for row in rows] == ["reference", "ok", "ok"]
    assert {row.results["speedup"].series for row in rows} == {rows[0].results["latency"].series}
    assert {row.results["latency"].reference for row in rows} == {cached.reference.key}
    assert [each.key for each in generated] == [rows[0].run.key, cached.key, plain.key]
    loops.clear()
    assert swept([cached, fewer_steps(2)], options, metrics=["psnr"])[2] == rows[2]
    assert not loops
    (alone,) = swept([plain], options, metrics=["psnr"])
    assert (alone.results["speedup"].value, alone.results["psnr"].status) == (1, "reference")
    assert swept([cached, fewer_steps(2)], options, metrics=["psnr"])[2] == rows[2]
    assert results.read_result(options.root, plain.key, "speedup").value == 1
    assert results.is_timed(options.root, fewer_steps(2))


def test_a_run_that_others_are_compared_with_is_one_line(options):
    cached, other = run("skip-cache(n=2)"), run("skip-cache(n=2)", steps=2)
    found = sweep.with_references([cached, other, fewer_steps(2), fewer_steps(3)])
    assert found == [cached.reference, other.reference, cached, other, fewer_steps(3)]


def test_each_reference_is_timed_with_its_own(options, generated, loops):
    runs = [run("skip-cache(n=2)"), run("skip-cache(n=2)", model="moving-digits-skip")]
    swept(runs, replace(options, repeats=1), metrics=[])
    order = [key for key, _ in loops]
    assert order == [runs[0].reference.key] * 4 + [runs[1].reference.key] * 4


@pytest.mark.parametrize(
    ("paper", "given", "expected"), [(1, None, 1), (3, None, 3), (3, 2, 2), (None, None, 2)]
)
def test_the_batch_that_is_timed_is_the_paper_s_unless_one_was_chosen(
    options, generated, loops, monkeypatch, paper, given, expected
):
    """Of a batch of two samples; nobody asked for another."""
    card = replace(run("none").card, timed_batch=paper)
    wanted = replace(run("skip-cache(n=2)"), card=card, num_samples=6, batch_size=2)
    options = replace(options, repeats=1)
    rows = sweep.sweep([(wanted, [])], options, batch_size=given)
    timed = replace(wanted, batch_size=expected, num_samples=expected)
    assert {key for key, _ in loops} == {timed.reference.key}
    assert [(row.timed_batch, row.results["speedup"].value) for row in rows] == [
        (expected, 1.0),
        (expected, 2.0),
    ]
    assert rows[1].results["latency"].run == timed.key
    assert [row.run for row in rows] == [wanted.reference, wanted]
    assert set(generated) == {wanted.reference, wanted}


def test_runs_to_time_may_be_others(options, generated, loops):
    other = run("skip-cache(n=2)", batch_size=1)
    rows = swept([run("skip-cache(n=2)")], replace(options, repeats=1), metrics=[], profile=[other])
    assert {key for key, _ in loops} == {other.reference.key}
    assert all("latency" not in row.results for row in rows)
    assert results.read_result(options.root, other.key, "speedup").value == 2.0


def test_a_run_that_fails_has_its_speedup_all_the_same(options, generated, loops):
    cached = [run(f"skip-cache(n={n})") for n in (2, 3)]
    generated.fail[str(cached[0].cache)] = SkipditError("no")
    rows = swept(cached, replace(options, repeats=1), metrics=["psnr"])
    assert rows[1].failure == "no"
    assert set(rows[1].results) == {"latency", "speedup", "memory"}
    assert [row.results["speedup"].value for row in rows] == [1.0, 2.0, 2.0]


def test_all_is_timed_before_anything_is_generated(options, generated, loops):
    """What ends a sweep while it generates leaves the speedups of all models."""
    cached = [run("skip-cache(n=2)"), run("skip-cache(n=2)", model="moving-digits-skip")]
    generated.fail["none"] = StoreError("no space left on device", place="results")
    with pytest.raises(StoreError):
        swept(cached, replace(options, repeats=1), metrics=["psnr"])
    assert len(generated) == 1
    for each in cached:
        assert results.read_result(options.root, each.key, "speedup").value == 2.0


def test_nothing_is_timed_for_what_cannot_be_generated(options, generated, loops, tmp_path):
    cached = run("skip-cache(n=2)", model="captioned-digits-skip")
    without = replace(cached, prompts=None)
    with pytest.raises(MissingAssetError, match="captioned-digits-skip has no prompts"):
        swept([without], replace(options, repeats=1), metrics=[])
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match="a file is where a folder should be"):
        swept([cached], replace(options, repeats=1, root=tmp_path / "results"), metrics=[])
    assert (loops, generated) == ([], [])


def test_runs_of_a_model_follow_one_another_and_rows_keep_their_order(options, generated):
    """A model at full size is loaded once then."""
    names = ("digits-skip", "digits", "digits-skip", "digits")
    cached = [
        run(f"fora(n={n})", model=model) for n, model in zip((2, 2, 3, 3), names, strict=True)
    ]
    rows = swept(cached, options, metrics=[])
    assert [row.run for row in rows[2:]] == cached
    assert [row.run for row in rows[:2]] == [cached[0].reference, cached[1].reference]
    assert generated == [
        *(cached[0].reference, cached[0], cached[2]),
        *(cached[1].reference, cached[1], cached[3]),
    ]


def test_timings_of_random_weights_stay_by_themselves(options, loops):
    once = replace(options, repeats=1)
    for count, weights in ((1, {}), (2, {"weights": "random"})):
        runs = [run("none", **weights), run("skip-cache(n=2)", **weights)]
        timing.time_together(runs, once)
        assert len(loops) == 4 * count  # a warm-up and one repetition of both
    timing.time_together(runs, once)
    assert len(loops) == 8


def test_a_run_that_is_asked_for_twice_is_timed_once(options, loops):
    twice, once = [run("skip-cache(n=2)")] * 2, replace(options, repeats=1)
    timing.time_together(twice, once)
    assert len(loops) == 2 * 2  # its reference and it
    loops.clear()
    timing.time_together(twice, once)
    assert loops == []


def test_out_of_memory_of_a_profile(options, loops):
    loops.fail = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(SkipditError) as caught:
        timing.time_together([run("skip-cache(n=2)")], replace(options, repeats=1))
    assert str(caught.value) == "out of memory at batch size 2; take a smaller --batch-size"
    assert list(options.root.iterdir()) == []


def test_a_metric_that_fails_leaves_the_others_their_numbers(options, generated):
    """16 px are too few for LPIPS, which is found when it is asked to score."""
    rows = swept([run("fora(n=2)")], options, metrics=["lpips", "psnr"])
    cached = rows[1].results
    assert (cached["lpips"].status, cached["lpips"].value) == ("failed", None)
    assert "lpips cannot score 16x16, only 31 px and more" in cached["lpips"].note
    assert cached["psnr"].value > 20
    assert not rows[1].failure
    assert results.read_result(options.root, rows[1].run.key, "lpips") is None


def kept(options):
    """What is kept of failures, by run key and what failed."""
    files = (options.root / "failures").glob("*/*.json")
    return {
        (f.parent.name, f.stem): failures.read_failure(options.root, f.parent.name, f.stem)
        for f in files
    }


def test_why_a_run_failed_is_kept_until_it_succeeds(options, generated):
    cached = [run(f"skip-cache(n={n})") for n in (2, 3)]
    generated.fail[str(cached[1].cache)] = torch.OutOfMemoryError("CUDA out of memory")
    swept(cached, options, metrics=["psnr"])
    reason = "out of memory at batch size 2; take a smaller --batch-size"
    assert kept(options) == {(cached[1].key, "samples"): reason}
    assert failures.why(options.root, cached[1], "psnr") == reason
    assert failures.why(options.root, cached[0], "psnr") == ""
    generated.fail.clear()
    swept(cached, options, metrics=["psnr"])
    assert list((options.root / "failures").iterdir()) == []


def test_what_is_wrong_for_all_runs_alike_is_not_kept_as_a_failure(options, generated):
    cached = run("skip-cache(n=2)")
    generated.fail[str(cached.cache)] = StoreError("no space left on device", place="results")
    with pytest.raises(StoreError):
        swept([cached], options, metrics=["psnr"])
    assert kept(options) == {}


def test_a_run_without_its_reference_says_so_later_too(options, generated):
    cached = run("skip-cache(n=2)")
    generated.fail["none"] = SkipditError("a worker process died")
    swept([cached], options, metrics=["psnr"])
    said = "its uncached reference failed: a worker process died"
    assert failures.why(options.root, cached, "psnr") == said
    assert failures.why(options.root, cached.reference, "latency") == "a worker process died"


def test_a_score_that_failed_is_kept_until_there_is_one(options, generated):
    cached = run("fora(n=2)")
    swept([cached], options, metrics=["lpips"])
    assert "only 31 px and more" in kept(options)[cached.key, "lpips"]
    results.write_result(
        options.root, results.Result(metric="lpips", value=0.1, unit="", n=2, run=cached.key)
    )
    assert (cached.key, "lpips") not in kept(options)


def test_a_lack_of_memory_while_timing_leaves_the_scores(options, generated, loops):
    cached = [run("skip-cache(n=2)"), run("skip-cache(n=2)", seed=1, batch_size=1)]
    loops.fail = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
    timed = replace(options, repeats=1)
    rows = swept(cached, timed, metrics=["psnr"])
    assert all(row.results["latency"].status == "failed" for row in rows)
    assert [row.results["psnr"].status for row in rows] == ["reference"] * 2 + ["ok"] * 2
    assert [row.results["speedup"].note.partition(";")[0] for row in rows] == [
        f"out of memory at batch size {size}" for size in (2, 1, 2, 1)
    ]
    assert set(kept(options)) == {(each.key, "timing") for each in (row.run for row in rows)}
    loops.fail = None
    rows = swept(cached, timed, metrics=["psnr"])
    assert rows[2].results["speedup"].value == 2.0
    assert kept(options) == {}


def test_a_lack_of_memory_while_scoring_leaves_a_table(options, generated, monkeypatch):
    def lacking(reference, sample):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    monkeypatch.setattr("skipdit_cli.metrics.ssim.score", lacking)
    cached = swept([run("fora(n=2)")], options, metrics=["ssim", "psnr"])[1].results
    assert cached["ssim"].status == "failed"
    assert cached["ssim"].note.startswith("out of memory while scoring; score with `skipdit eval")
    assert cached["psnr"].value > 20
