"""A recipe file is read strictly, and all its mistakes are told at once with their place."""

import subprocess
import sys
from pathlib import Path

import pytest

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import UsageError
from skipdit_cli.recipe import needs, recipe, scales

GOOD = """\
title: A table
table: table1
notes: [one sentence]
paper: {hardware: one A100}
scales:
  tiny:
    groups: {digits: moving-digits}
    settings:
      {num_samples: 4, steps: 10, guidance: none, profile: {batch_size: 2}, timing: {steps: 250}}
    columns:
      - {label: PSNR, metric: psnr, group: digits, unit: dB, better: higher}
      - {key: speedup, label: Speedup, metric: speedup}
  paper:
    groups: {ucf101: ucf101, sky: skytimelapse}
    settings: {num_samples: 2048}
    columns:
      - {key: sky_fvd, label: FVD, metric: fvd, group: sky, tolerance: 0.1, planned: later}
rows:
  - {id: latte, label: Latte, published: {method: Latte}, model: "{model}"}
  - id: cached
    label: Skip-Cache
    published: {method: Skip-Cache, n: 2}
    model: "{model}-skip"
    cache: {tiny: "skip-cache(n=2,branch=2)", paper: skip-cache(n=2)}
    settings: {tiny: {steps: 8}, paper: {sampler: ddpm}}
  - {id: fora, label: FORA, published: {method: FORA}, planned: FORA is not in this version}
"""


@pytest.fixture
def write(tmp_path):
    """Write GOOD with some texts replaced; returns how errors call the file."""

    def write(*changes: tuple[str, str], text: str = GOOD) -> str:
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_both_scales(write):
    path = write()
    tiny, paper = recipe.load_recipe(path), recipe.load_recipe(path, scale="paper")
    assert (tiny.name, tiny.table, tiny.title, tiny.scale) == ("own", "table1", "A table", "tiny")
    assert tiny.notes == ("one sentence",)
    assert tiny.paper == {"hardware": "one A100"}
    assert tiny.settings == {
        "num_samples": 4,
        "steps": "10",
        "guidance": None,
        "profile": {"batch_size": 2},
        "timing": {"steps": "250"},
    }
    assert paper.settings == {"num_samples": 2048}
    assert (tiny.paper_only, paper.paper_only) == ((paper.columns[0].label,), ())
    assert tiny.columns == (
        recipe.Column("digits_psnr", "PSNR", "psnr", "digits", "dB", "higher"),
        recipe.Column("speedup", "Speedup", "speedup"),
    )
    assert paper.columns[0].tolerance == 0.1
    assert paper.columns[0].planned == "later"
    latte, cached, fora = tiny.rows
    assert latte.models == {"digits": "moving-digits"}
    assert str(latte.cache) == "none"
    assert str(cached.cache) == "skip-cache(n=2,branch=2)"
    assert cached.published == {"method": "Skip-Cache", "n": "2"}
    assert cached.settings == {"steps": "8"}
    assert str(paper.rows[1].cache) == "skip-cache(n=2)"
    assert paper.rows[1].models == {"ucf101": "ucf101-skip", "sky": "skytimelapse-skip"}
    assert paper.rows[1].settings == {"sampler": "ddpm"}
    assert (fora.models, fora.planned) == ({}, "FORA is not in this version")


@pytest.mark.parametrize("looked_through", [True, False])
@pytest.mark.parametrize(
    "tag",
    ["!!python/object/apply:os.mkdir [RAN]", "!!python/tuple [a]", "!!python/name:os.mkdir"],
)
def test_no_code_of_a_recipe_is_run(write, tmp_path, monkeypatch, tag, looked_through):
    """Neither by what looks the text through beforehand, nor by the loader behind it."""
    if not looked_through:
        monkeypatch.setattr("skipdit_cli.recipe.yaml_events.check", lambda text, shown: None)
    path = write(("title: A table", f"title: {tag}".replace("RAN", str(tmp_path / "ran"))))
    with pytest.raises(UsageError, match=r"own\.yaml"):
        recipe.load_recipe(path)
    assert not (tmp_path / "ran").exists()


MISTAKES = [
    (("title: A", "titel: A"), " : unknown key 'titel'; did you mean 'title'?"),
    (("title: A table\n", ""), " : 'title' is missing"),
    (
        ("table: table1", "table: tabel1"),
        " table: unknown published table 'tabel1'; did you mean 'table1'?",
    ),
    (
        ("notes: [one sentence]", "notes: 1"),
        " notes: '1' is not a list; write one line that starts with - per entry",
    ),
    (
        ("{hardware: one", "{hardwar: one"),
        " paper: unknown key 'hardwar'; did you mean 'hardware'?",
    ),
    (
        ("{digits: moving-digits}", "{digits: moving-digit}"),
        " scales.tiny.groups.digits: unknown model 'moving-digit'; did you mean 'moving-digits'?",
    ),
    (
        ("num_samples: 4", "num_sample: 4"),
        " scales.tiny.settings: unknown key 'num_sample'; did you mean 'num_samples'?",
    ),
    (
        ("steps: 10", "steps: ten"),
        " scales.tiny.settings.steps: cannot take steps 'ten' of 1000 training steps; "
        'write a count such as 250, "ddim50", or counts per section such as "10,15,20"',
    ),
    (
        ("{batch_size: 2}", "{batch: 2}"),
        " scales.tiny.settings.profile: unknown key 'batch'; did you mean 'batch_size'?",
    ),
    (
        ("{batch_size: 2}", "{group: digit}"),
        " scales.tiny.settings.profile.group: unknown group 'digit'; did you mean 'digits'?",
    ),
    (
        ("{steps: 250}", "{num_samples: 250}"),
        " scales.tiny.settings.timing: unknown key 'num_samples'; did you mean 'sampler'?",
    ),
    (
        ("metric: psnr", "metric: pnsr"),
        " scales.tiny.columns[0].metric: unknown metric 'pnsr'; did you mean 'psnr'?",
    ),
    (
        ("group: sky,", "group: skye,"),
        " scales.paper.columns[0].group: unknown group 'skye'; did you mean 'sky'?",
    ),
    (
        ("key: sky_fvd", "key: sky_fdv"),
        " scales.paper.columns[0].key: unknown column of table1.csv 'sky_fdv'; "
        "did you mean 'sky_fvd'?",
    ),
    (
        ("better: higher", "better: up"),
        " scales.tiny.columns[0].better: 'up' is neither higher nor lower",
    ),
    (
        ("tolerance: 0.1", "tolerance: small"),
        " scales.paper.columns[0].tolerance: 'small' is not a number of 0 or more",
    ),
    (
        ("key: speedup, label: Speedup, metric: speedup", "label: A, metric: psnr, group: digits"),
        " scales.tiny.columns[1].key: 'digits_psnr' occurs twice; rename one of them",
    ),
    (("id: latte", "id: cached"), " rows[1].id: 'cached' occurs twice; rename one of them"),
    (("id: latte, ", ""), " rows[0]: 'id' is missing"),
    (("label: Latte", "label: [Latte]"), " rows[0].label: '['Latte']' is not text"),
    (
        (', model: "{model}"}', "}"),
        " rows[0]: 'model' is missing; write model: \"{model}\", or planned:",
    ),
    (
        ("{method: Latte}", "{methd: Latte}"),
        " rows[0].published: unknown key column of table1 'methd'; did you mean 'method'?",
    ),
    (
        ("{method: Skip-Cache, n: 2}", "{method: Skip-Cache}"),
        " rows[1].published: 5 lines of table1.csv have method=Skip-Cache; "
        "name the key columns of exactly one line",
    ),
    (
        ("paper: skip-cache(n=2)}", "paper: skip-cahe(n=2)}"),
        " rows[1].cache: unknown cache 'skip-cahe'; did you mean 'skip-cache'?",
    ),
    (
        ("skip-cache(n=2,branch=2)", "skip-cache(n=2,brunch=2)"),
        " rows[1].cache: unknown setting of skip-cache 'brunch'; did you mean 'branch'?",
    ),
    (
        ("skip-cache(n=2,branch=2)", "skip-cache(n=0)"),
        " rows[1].cache: n=0 is not an interval in 'skip-cache(n=0)'; n is 1 or more",
    ),
    (
        ("skip-cache(n=2,branch=2)", "skip-cache(window=50-700)"),
        " rows[1].cache window: window '50-700' must run from a higher to a lower timestep, "
        "1000 at most; write 700-50",
    ),
    (
        ('cache: {tiny: "skip-cache(n=2,branch=2)", paper', "cache: {paper"),
        " rows[1].cache: 'tiny' is missing",
    ),
    (
        ("{tiny: {steps: 8}", "{tiny: {stepz: 8}"),
        " rows[1].settings: unknown key 'stepz'; did you mean 'steps'?",
    ),
    (
        ("{sampler: ddpm}", "{sampler: dpm}"),
        " rows[1].settings.sampler: unknown sampler 'dpm'; did you mean 'ddpm'?",
    ),
    (("planned: FORA", "plan: FORA"), " rows[2]: unknown key 'plan'; did you mean 'planned'?"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_a_mistake_is_told_in_one_line(write, change, message):
    path = write(change)
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.load_recipe(path)
    expected = path + (message.lstrip() if message.startswith(" :") else message)
    assert expected in caught.value.errors
    assert len(caught.value.errors) <= 2  # a misspelt key that is needed is unknown and missing
    assert caught.value.exit_code == 2


def test_all_mistakes_are_told_at_once_and_each_once(write):
    path = write(
        ("metric: psnr", "metric: pnsr"),
        ("steps: 10", "steps: 0"),
        ('"skip-cache(n=2,branch=2)"', '"foar"'),
        ("paper: skip-cache(n=2)", "paper: foar"),
        ("{sampler: ddpm}", "{sampler: dpm}"),
    )
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.load_recipe(path, overrides=["seed=x"])
    places = [error.removeprefix(path).split(":")[0] for error in caught.value.errors]
    assert places == [
        " scales.tiny.settings.steps",
        " scales.tiny.columns[0].metric",
        " rows[1].cache",  # the same at both scales
        " rows[1].settings.sampler",
        "override 'seed=x'",
    ]
    assert str(caught.value) == "\n".join(caught.value.errors)


def test_a_wrong_shape_does_not_drag_other_mistakes_along(write):
    path = write(("    groups: {digits: moving-digits}", "    groups: [digits]"))
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.load_recipe(path)
    assert caught.value.errors == [
        f"{path} scales.tiny.groups: '['digits']' is not a mapping; write key: value"
    ]


@pytest.mark.parametrize("text", ["", "- a list", "just text"])
def test_a_file_that_is_no_recipe(write, text):
    path = write(text=text)
    with pytest.raises(UsageError) as caught:
        recipe.load_recipe(path)
    assert str(caught.value) == f"{path}: not a recipe; it starts with title: ..."


def test_invalid_yaml_names_its_line(write):
    path = write(("notes: [one sentence]", "notes: [one sentence"))
    with pytest.raises(UsageError) as caught:
        recipe.load_recipe(path)
    assert str(caught.value).startswith(f"{path} line 4: not valid YAML (")
    assert "\n" not in str(caught.value)


def test_unknown_names():
    with pytest.raises(UsageError, match=r"^unknown recipe 'tabel1'; did you mean 'table1'[?]$"):
        recipe.load_recipe("tabel1")
    with pytest.raises(UsageError, match=r"^unknown scale 'papr'; did you mean 'paper'[?]$"):
        recipe.load_recipe("table1", scale="papr")
    with pytest.raises(UsageError, match=r"^mine\.yaml: no such file; see skipdit ls "):
        recipe.load_recipe("mine.yaml")


def test_errors_of_a_shipped_recipe_name_it_by_its_short_path(monkeypatch, tmp_path):
    (tmp_path / "own.yaml").write_text(GOOD.replace("metric: psnr", "metric: pnsr"))
    monkeypatch.setattr(shipped, "recipes", lambda: tmp_path)
    with pytest.raises(recipe.RecipeError, match=r"^recipes/own\.yaml scales\.tiny\.columns\[0\]"):
        recipe.load_recipe("own")
    assert recipe.names() == ["own"]
    assert recipe.summary("own") == "A table"


def test_overrides_win_over_file_and_rows(write):
    loaded = recipe.load_recipe(write(), overrides=["steps=3", "num_samples = 7", "guidance=2"])
    assert loaded.settings["steps"] == "3"
    assert loaded.settings["num_samples"] == 7
    assert loaded.settings["guidance"] == 2.0
    assert loaded.rows[1].settings == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "num_sampels=3",
            "override 'num_sampels=3': unknown setting 'num_sampels'; did you mean 'num_samples'?",
        ),
        ("steps", "override 'steps' is not key=value; write one such as num_samples=16"),
        (
            "num_samples=many",
            "override 'num_samples=many': num_samples 'many' is not a whole number; "
            "num_samples is 1 or more",
        ),
    ],
)
def test_wrong_overrides(text, message):
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.load_recipe("smoke", overrides=[text])
    assert str(caught.value) == message


def test_checking_recipes_and_importing_the_plan_does_not_load_torch():
    code = (
        "import sys, time; started = time.process_time()\n"
        "import skipdit_cli.plan.plan, skipdit_cli.recipe.recipe as recipe\n"
        "for name in recipe.names(): recipe.load_recipe(name)\n"
        "heavy = {'torch', 'diffusers', 'pandas', 'matplotlib', 'skimage', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), time.process_time() - started)"
    )
    root = Path(recipe.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    loaded, _, seconds = done.stdout.rpartition(" ")
    assert loaded == "[]"
    assert float(seconds) < 2  # 0.3 s on an idle machine; torch alone takes more than 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("groups: {digits: moving-digits}", "groups: {}", "scales.tiny: 'groups' is empty"),
        ("table: table1", "table: ../published/table1", "table: unknown published table '../pub"),
        ("table: table1", f"table: {'a' * 300}", "table: unknown published table 'aaa"),
        ("table: table1", 'table: "\\0"', "table: unknown published table '\\x00'"),
    ],
)
def test_what_is_empty_and_tables_that_are_none(tmp_path, old, new, message):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.load_recipe(str(path))
    assert any(line.startswith(f"{path} {message}") for line in str(caught.value).split("\n"))


def test_only_the_first_of_many_mistakes_are_told(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + "\n".join(f"key{i}: x" for i in range(50)))
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.load_recipe(str(path))
    assert len(caught.value.errors) == 50
    assert str(caught.value).split("\n")[recipe.MOST_TOLD :] == ["and 30 mistakes more"]


def test_a_dry_run_needs_no_weights_to_be_of_paper_scale(monkeypatch):
    monkeypatch.setattr(scales, "_gpu", lambda: True)
    found, said = scales.recipe_at("table8", "auto", overrides=["weights=random"])
    assert (found.scale, found.settings["weights"]) == ("paper", "random")
    assert said.startswith("scale paper: a GPU is here")
    assert needs.checkpoints(found) == ()
    assert scales.recipe_at("table8", "auto")[0].scale == "tiny"
    monkeypatch.setattr(scales, "_gpu", lambda: False)
    found, said = scales.recipe_at("table8", "auto", overrides=["weights=random"])
    assert (found.scale, said.split(";")[0]) == ("tiny", "scale tiny: there is no GPU")
