"""Every recipe that ships loads, every row resolves, and tables have the paper's rows."""

import csv
import re
from collections import Counter

import pytest
import yaml  # type: ignore[import-untyped]

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog
from skipdit_cli.embedded import shipped
from skipdit_cli.plan import plan
from skipdit_cli.recipe import prompts, published, recipe, runs
from skipdit_cli.score.sweep import runs_of

NAMES = recipe.names()
BOTH = [(name, scale) for name in NAMES for scale in recipe.scales(name)]
TABLES = [name for name in NAMES if name.startswith("table")]
KEY_COLUMNS = ("method", "n", "window", "cfg", "solver", "steps")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
STUDIES = ("forecasting",)  # of the embedded models alone
ADDED = {  # rows that the paper's table does without
    "table1": ["delta-dit-table9"],
    "table3": ["t-gate-table10", "delta-dit-table9"],
    "table4": ["t-gate-table10", "delta-cache-table9"],
    "table5": ["skip-dit"],
}


def test_the_recipes_there_are():
    assert {"smoke", *(f"table{i}" for i in range(1, 9))} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_says_what_it_took(name):
    path = shipped.recipes() / f"{name}.yaml"
    text = path.read_text()
    assert text.startswith("# ")
    loaded = recipe.load_recipe(name)
    if loaded.table:  # one's own recipe says what it wants to
        assert set(loaded.paper) == {"command", "headline", "hardware"}
        assert loaded.paper["command"] == f"skipdit cache-sweep --recipe {name} --scale paper"
    assert recipe.summary(name) == loaded.title
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.few(9)
@pytest.mark.parametrize(("name", "scale"), BOTH)
def test_every_row_resolves(name, scale):
    loaded = recipe.load_recipe(name, scale=scale)
    found = runs.of_recipe(loaded)
    expected = [
        (row.id, group) for row in loaded.rows if row.planned is None for group in row.models
    ]
    assert [(row.id, group) for row, group, _ in found] == expected
    assert len({(row.id, group) for row, group, _ in found}) == len(found)
    for row, group, run in found:
        assert catalog.card(run.model).embedded == (scale == "tiny")
        assert runs.profile_run(loaded, row, group).cache == run.cache
        planned = plan.plan(run)
        if not run.cache.method.DYNAMIC:  # which is counted once it has run
            assert (planned.cached_steps > 0) == (run.cache.name != "none")
    keys = [run.key for *_, run in found]
    assert len(set(keys)) == len(keys), "two rows would share their samples"


@pytest.mark.parametrize(("name", "scale"), BOTH)
def test_every_cached_row_has_its_reference_in_the_table(name, scale):
    keys = {run.key for *_, run in runs.of_recipe(recipe.load_recipe(name, scale=scale))}
    assert all(
        run.reference.key in keys
        for *_, run in runs.of_recipe(recipe.load_recipe(name, scale=scale))
    )


@pytest.mark.parametrize(("name", "scale"), BOTH)
def test_columns_agree_with_their_metrics(name, scale):
    for column in recipe.load_recipe(name, scale=scale).columns:
        if column.metric in registry.names("metrics"):
            module = registry.load("metrics", column.metric)
            share_in_percent = (column.unit, module.UNIT) == ("%", "")
            assert column.unit == module.UNIT or share_in_percent
            assert column.better == module.BETTER
            assert column.group
        else:
            assert column.metric in recipe.COSTS or column.planned


@pytest.mark.parametrize(("name", "scale"), [case for case in BOTH if case[0] in TABLES])
def test_a_table_has_the_rows_and_columns_of_the_paper(name, scale):
    loaded = recipe.load_recipe(name, scale=scale)
    with (shipped.published() / f"{name}.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [row.id for row in loaded.rows if not row.published] == ADDED.get(name, [])
    rows = [row for row in loaded.rows if row.published]
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert row.published.items() <= line.items()
        assert row.label.split(",")[0] == _method(line)
        if window := line.get("window"):
            assert row.label.endswith(f", {window}")
            assert f"window={window}" in str(row.cache)
    values = [key for key in lines[0] if key not in KEY_COLUMNS]
    measured = [column.key for column in loaded.columns if column.key in lines[0]]
    if scale == "paper":
        assert measured == values
    else:
        labels = {c.key: c.label for c in recipe.load_recipe(name, scale="paper").columns}
        assert measured == [key for key in values if key in measured]
        assert loaded.paper_only == tuple(labels[key] for key in values if key not in measured)


def _method(line):
    if "method" not in line:
        return "Skip-Cache n=2"  # what table 5 is about
    return f"{line['method']} n={line['n']}" if line.get("n") else line["method"]


@pytest.mark.parametrize("name", TABLES)
def test_the_headline_is_published(name):
    numbers = {field for line in published.lines(name) for field in line.values()}
    headline = recipe.load_recipe(name).paper["headline"]
    quoted = re.findall(r"\d+\.\d+", headline.replace("cfg 1.5", ""))
    assert quoted
    assert set(quoted) <= numbers


@pytest.mark.parametrize(("name", "rows"), [("table1", 11), ("table3", 14), ("table4", 9)])
def test_the_published_flops_are_counted(name, rows):
    """All 34 cells, within 0.05 %."""
    loaded = recipe.load_recipe(name, scale="paper")
    column = next(column for column in loaded.columns if column.metric == "macs")
    checked = 0
    for row in loaded.rows:
        if row.published:
            macs = plan.profile(loaded, row).macs_paper / 1e12
            expected = published.numbers(name, row.published)["flops_t"]
            assert macs == pytest.approx(expected, rel=column.tolerance), row.id
            checked += 1
    assert checked == rows
    assert column.tolerance == 0.0005


def test_table1_samples_as_the_paper_does():
    found = {
        group: (run.sampler.name, run.steps, run.guidance, run.num_samples)
        for row, group, run in runs.of_recipe(recipe.load_recipe("table1", scale="paper"))
        if row.id == "skip-cache-n2"
    }
    plain = ("ddpm", "250", None, 2048)
    assert found == {"ucf101": ("ddim", "50", 7.0, 2048), "ffs": plain, "sky": plain} | {
        "taichi": plain
    }


@pytest.mark.parametrize("count", ["macs_paper", "flops"])
@pytest.mark.parametrize("scale", recipe.SCALES)
def test_ddim_rows_of_table2_have_the_steps_of_equal_cost(scale, count):
    """The number of steps whose MACs, or FLOPs, are nearest to those of the cached row above."""
    loaded, above, found = recipe.load_recipe("table2", scale=scale), 0, {}
    for row in loaded.rows:
        planned = plan.profile(loaded, row)
        if row.id.startswith("skip-cache"):
            above = getattr(planned, count)
        elif row.id.startswith("ddim"):
            assert (planned.run.sampler.name, planned.cached_steps) == ("ddim", 0)
            one_step = getattr(planned, count) / planned.steps
            nearest = min(range(1, planned.steps * 2), key=lambda n: abs(n * one_step - above))
            assert row.settings["steps"] == str(planned.steps) == str(nearest)
            found[row.id] = nearest
    assert len(found) == 4
    if scale == "paper":
        assert list(found.values()) == [158, 165, 128, 134]
        assert (
            "158 steps of Skip-DiT and 165 of Latte for n=2, 128 and 134 for n=3" in loaded.notes[0]
        )


def test_the_paper_s_clock_gives_table2_other_steps():
    """Equal throughput by the latencies of Table 1, which are of DDPM with 250 steps."""

    def seconds(method, n=""):
        return published.numbers("table1", {"method": method, "n": n})["latency_s"]

    found = [
        round(250 * seconds("Skip-Cache", n) / seconds(model))
        for n in ("2", "3")
        for model in ("Skip-DiT", "Latte")
    ]
    assert found == [160, 162, 131, 132]
    assert "160 and 162 steps for n=2, 131 and 132 for n=3" in recipe.load_recipe("table2").notes[1]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("table3", ("ddim", "ddim50", 7.5, 4720, "vbench")),
        ("table4", ("ddpm", "ddim50+1", 6.0, 30_000, "coco")),
        ("table5", ("ddim", "ddim50", 7.5, 4720, "vbench")),
    ],
)
def test_the_text_tables_sample_as_the_paper_does(name, settings):
    loaded = recipe.load_recipe(name, scale="paper")
    found = runs.of_recipe(loaded)
    for _, _, run in found:
        card = catalog.card(run.model)
        assert (
            run.sampler.name,
            run.steps,
            run.guidance,
            run.num_samples,
            card.prompts,
        ) == settings
        assert (card.sampling.sampler, card.sampling.steps, card.sampling.guidance) == settings[:3]
        assert plan.plan(run).steps == 50
    assert loaded.settings["prompts"] == settings[-1]
    assert loaded.settings["num_samples"] % 944 == 0 or name == "table4"


@pytest.mark.parametrize("scale", recipe.SCALES)
def test_table5_shares_its_runs_with_table3(scale):
    third, fifth = (
        {
            str(row.cache): run.key
            for row, _, run in runs.of_recipe(recipe.load_recipe(name, scale=scale))
        }
        for name in ("table3", "table5")
    )
    both = {"none", "skip-cache(n=2,window=800-50)", "skip-cache(n=2,window=700-50)"}
    assert set(third) & set(fifth) == both
    assert all(third[cache] == fifth[cache] for cache in both)


def test_the_windows_of_table5_cache_as_many_steps_as_its_head_says():
    loaded = recipe.load_recipe("table5", scale="paper")
    found = {str(row.cache): plan.plan(run).cached_steps for row, _, run in runs.of_recipe(loaded)}
    assert found == {
        "none": 0,
        "skip-cache(n=2,window=700-50)": 17,
        "skip-cache(n=2,window=950-300)": 16,
        "skip-cache(n=2,window=800-50)": 19,
        "skip-cache(n=2,window=900-50)": 22,
    }


@pytest.mark.parametrize(
    ("name", "row", "more"),
    [
        ("table1", "delta-dit-table9", 2.1),
        ("table3", "delta-dit-table9", 2.1),
        ("table3", "t-gate-table10", -3.7),
        ("table4", "delta-cache-table9", 26.5),
        ("table4", "t-gate-table10", 18.2),
    ],
)
def test_what_the_paper_says_of_its_settings_does_not_give_its_flops(name, row, more):
    loaded = recipe.load_recipe(name, scale="paper")
    rows = {row.id: row for row in loaded.rows}
    tera = plan.profile(loaded, rows[row]).macs_paper / 1e12
    expected = published.numbers(name, rows[row.rpartition("-")[0]].published)["flops_t"]
    assert 100 * (tera / expected - 1) == pytest.approx(more, abs=0.05)
    assert any(f"{abs(more)} %" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("name", "row", "steps"),
    [
        ("table1", "delta-dit", range(1, 24, 2)),
        ("table1", "fora", range(5, 47, 2)),
        ("table3", "delta-dit", range(1, 24, 2)),
        ("table4", "delta-cache", range(11, 48, 2)),
        ("table4", "fora", range(11, 48, 2)),
    ],
)
def test_the_steps_that_the_paper_s_rows_cache(name, row, steps):
    loaded = recipe.load_recipe(name, scale="paper")
    (row,) = [candidate for candidate in loaded.rows if candidate.id == row]
    run = runs.profile_run(loaded, row)
    reused = run.cache.reused(run.timesteps, guided=run.guided)
    assert [step for step, sites in enumerate(reused) if sites] == list(steps)


PRECISIONS = {
    **dict.fromkeys(["table1", "table2", "table3", "table4", "table5", "table6"], "float16"),
    **dict.fromkeys(["table7", "table8"], "tf32"),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_table_is_sampled_and_timed_in_the_precision_of_the_released_code(name):
    loaded = recipe.load_recipe(name, scale="paper")
    found = [run for *_, run in runs.of_recipe(loaded)]
    found += [runs.timed_run(loaded, row) for row in loaded.rows]
    assert {(run.precision, run.decode_precision) for run in found} == {
        (PRECISIONS[name], "float32")
    }
    forced = recipe.load_recipe(
        name, scale="paper", overrides=["precision=float32", "decode_precision=float16"]
    )
    found = [run for *_, run in runs.of_recipe(forced)]
    assert {(run.precision, run.decode_precision) for run in found} == {("float32", "float16")}
    tiny = runs.of_recipe(recipe.load_recipe(name))
    assert {run.precision for *_, run in tiny} == {"float32"}


@pytest.mark.parametrize(
    ("name", "timed"),
    [
        ("table1", ("taichi", "ddpm", "250", None, 1)),  # by the caption
        ("table3", ("latte", "ddim", "ddim50", 7.5, 1)),
        ("table4", ("hunyuan-dit", "ddpm", "ddim50+1", 6.0, 1)),
        ("table8", ("dit-xl-2", "ddpm", "250", 1.5, 8)),
    ],
)
def test_latency_is_of_the_published_batch_and_steps(name, timed):
    loaded = recipe.load_recipe(name, scale="paper")
    run = runs.timed_run(loaded, loaded.rows[0])
    assert (run.model, run.sampler.name, run.steps, run.guidance, run.batch_size) == timed
    assert run.card.timed_batch == run.batch_size  # which a sweep of the model times as well
    assert run in runs_of(loaded)


def test_table1_counts_three_clips_over_50_steps():
    loaded = recipe.load_recipe("table1", scale="paper")
    run = runs.profile_run(loaded, loaded.rows[0])
    assert (run.model, run.sampler.name, run.steps, run.guidance, run.batch_size) == (
        *("taichi", "ddim", "ddim50", None),
        3,
    )


@pytest.mark.parametrize("name", ["table3", "table4", "table5", "table6"])
def test_a_tiny_text_table_asks_for_every_digit_and_direction_as_often(name):
    loaded = recipe.load_recipe(name)
    captions = prompts.read_prompts(loaded.settings["prompts"]).texts
    count = loaded.settings["num_samples"]
    asked = [captions[i % len(captions)].split() for i in range(count)]
    words = Counter(word for caption in asked for word in caption)
    assert [words[digit] for digit in DIGITS] == [count // 10] * 10
    if name != "table4":
        assert [words[way] for way in ("left", "right", "up", "down")] == [count // 4] * 4
    for _, _, run in runs.of_recipe(loaded):
        assert catalog.card(run.model).prompts == loaded.settings["prompts"]


@pytest.mark.parametrize("name", ["table1", "table3", "table4"])
def test_a_tiny_table_with_published_flops_has_the_share_of_them(name):
    columns = {column.key: column for column in recipe.load_recipe(name).columns}
    assert columns["macs_share"].metric == "macs_share"
    assert list(columns).index("macs_share") == list(columns).index("flops_t") + 1


@pytest.mark.parametrize("scale", recipe.SCALES)
def test_table7_is_the_uncached_rows_of_table8(scale):
    seventh, eighth = (
        {row.id: run for row, _, run in runs.of_recipe(recipe.load_recipe(name, scale=scale))}
        for name in ("table7", "table8")
    )
    uncached = {name: run for name, run in eighth.items() if run.is_reference}
    assert {name: (run.key, run.num_samples) for name, run in seventh.items()} == {
        name: (run.key, run.num_samples) for name, run in uncached.items()
    }
    for row in recipe.load_recipe("table7", scale=scale).rows:
        assert f", {row.published['steps']} steps, " in row.label


def test_table7_has_in_fractions_what_table8_has_in_percent():
    for line in published.lines("table7"):
        keys = {"cfg": line["cfg"], "method": line["method"], "n": ""}
        seventh = published.numbers("table7", {key: line[key] for key in ("cfg", "method")})
        eighth = published.numbers("table8", keys)
        for key in ("fid", "sfid", "is"):
            assert seventh[key] == eighth[key]
        for key in ("precision", "recall"):
            assert seventh[key] == round(eighth[f"{key}_pct"] / 100, 2)


def test_table8_blocks():
    for row, _, run in runs.of_recipe(recipe.load_recipe("table8", scale="paper")):
        assert (run.sampler.name, run.steps, run.num_samples) == ("ddpm", "250", 50_000)
        assert run.guidance == (1.5 if row.published["cfg"] == "1.5" else None)
        assert runs.profile_run(recipe.load_recipe("table8", scale="paper"), row).batch_size == 8


@pytest.mark.parametrize("name", NAMES)
def test_the_tiny_scale_is_small(name):
    """A table has to take two minutes on two cores, where these models do about 40 GFLOP/s.

    A study may take twenty.
    """
    flops = sum(
        plan.plan(run, batch=run.num_samples).flops
        for *_, run in runs.of_recipe(recipe.load_recipe(name))
    )
    assert flops < (5e12 if name not in STUDIES else 5e13)


def test_the_files_are_plain_yaml():
    for name in NAMES:
        content = yaml.safe_load((shipped.recipes() / f"{name}.yaml").read_text())
        assert set(content["scales"]) == ({"tiny"} if name in STUDIES else set(recipe.SCALES))


def test_a_recipe_of_a_text_model_may_have_a_negative_prompt(tmp_path):
    """Of all rows or of one; where a profile is without guidance there is none to time."""
    path = tmp_path / "own.yaml"
    path.write_text("""
title: Mine
scales:
  tiny:
    groups: {digits: painted-digits}
    settings: {num_samples: 2, negative_prompt: a nine, profile: {guidance: none}}
    columns: [{label: PSNR, metric: psnr, group: digits}]
rows:
  - {id: all, label: All, model: "{model}"}
  - {id: own, label: Own, model: "{model}", settings: {tiny: {negative_prompt: a six}}}
  - {id: empty, label: Empty, model: "{model}", settings: {tiny: {negative_prompt: ""}}}
""")
    loaded = recipe.load_recipe(str(path))
    found = [run.negative_prompt for _, _, run in runs.of_recipe(loaded)]
    assert found == ["a nine", "a six", ""]
    assert [runs.profile_run(loaded, row).negative_prompt for row in loaded.rows] == [""] * 3
    forced = recipe.load_recipe(str(path), overrides=["negative_prompt=a two"])
    assert {run.negative_prompt for _, _, run in runs.of_recipe(forced)} == {"a two"}
