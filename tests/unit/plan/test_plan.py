"""A run's key changes with everything that changes a pixel; a plan counts without weights."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from skipdit_cli import registry
from skipdit_cli import run as run_module
from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import UsageError
from skipdit_cli.plan import plan
from skipdit_cli.recipe import prompts, recipe, runs
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.run import Run
from skipdit_cli.storage.store import open_store

RUN = replace(
    make_run(
        "moving-digits-skip",
        "skip-cache(n=2)",
        {"classes": (3, 1), "num_samples": 8, "batch_size": 4, "guidance": 2.0},
    ),
    weights="0123456789abcdef",
)
OTHERWISE = {
    "card": catalog.card("moving-digits"),
    "cache": RUN.cache.uncached,
    "sampler": registry.load("samplers", "ddpm"),
    "steps": "ddim50",
    "guidance": None,
    "seed": 1,
    "classes": None,
    "batch_size": 8,
    "precision": "float16",
    "decode_precision": "float16",
    "compile": True,
    "weights": "",
    "prompts": ("a horse",),
    "seeds": (0, 1),
}


STABLE = "dbae596b3733bff8"


def test_the_key_is_stable():
    """A changed key would orphan every sample on disk."""
    assert RUN.key == STABLE


def test_every_field_but_the_number_of_samples_changes_the_key():
    of_text = {"negative_prompt"}  # of a model that takes text alone
    of_pipelines = {"quantize"}  # tests/e2e/test_pipelines.py
    assert {*OTHERWISE, *of_text, *of_pipelines, *run_module.FREE} == {
        field.name for field in fields(Run)
    }
    keys = {replace(RUN, **{name: value}).key for name, value in OTHERWISE.items()}
    assert len(keys | {RUN.key}) == len(OTHERWISE) + 1
    assert replace(RUN, negative_prompt="a horse").key == RUN.key
    painted = make_run("painted-digits")
    assert replace(painted, negative_prompt="a horse").key != painted.key
    assert replace(RUN, num_samples=9, names=("a",), reference_steps="99").key == RUN.key


@pytest.mark.parametrize(
    ("part", "kind", "name"),
    [
        ("cache", "caches", "skip-cache"),
        ("sampler", "samplers", RUN.sampler.name),
        ("family", "models", "latte"),
    ],
)
def test_the_version_of_its_code_is_part_of_the_key(monkeypatch, part, kind, name):
    """A number for code of this package, the hash of the source for that of others."""
    known = registry.version

    def version(*which):
        return "edited" if which == (kind, name) else known(*which)

    assert RUN.to_dict()["versions"][part] == known(kind, name)
    monkeypatch.setattr(registry, "version", version)
    assert replace(RUN).to_dict()["versions"][part] == "edited"
    assert replace(RUN).key != STABLE


@pytest.mark.parametrize("part", ["LOOP", "DECODING", "TEXT"])
def test_what_every_run_goes_through_has_a_version_in_the_key(monkeypatch, part):
    image, text = make_run("digits"), make_run("painted-digits")
    before = image.key, text.key
    monkeypatch.setattr(run_module, part, 99)
    assert (replace(image).key != before[0]) == (part != "TEXT")
    assert replace(text).key != before[1]


@pytest.mark.parametrize(("cache", "there"), [("pab", False), ("first-block", True)])
def test_the_version_of_diffusers_counts_where_its_hooks_run(monkeypatch, cache, there):
    before = make_run("digits", cache)
    assert ("diffusers" in before.to_dict()["versions"]) == there
    key = before.key
    monkeypatch.setattr(run_module.metadata, "version", lambda name: "99")
    assert (replace(before).key != key) == there


def test_the_reference_is_the_same_run_without_cache():
    assert RUN.reference == replace(RUN, cache=RUN.cache.uncached)
    assert str(RUN.reference.cache) == "none"
    assert RUN.reference.reference == RUN.reference


PROMPTED = replace(RUN, classes=None, prompts=("a horse", "Ein Pferd, groß"))


def test_the_prompts_and_their_order_are_part_of_the_key():
    others = [("a horse",), ("Ein Pferd, groß", "a horse"), ("a horse", "Ein Pferd, gross"), None]
    keys = {replace(PROMPTED, prompts=prompts).key for prompts in others}
    assert len(keys | {PROMPTED.key}) == 5


@pytest.mark.parametrize("run", [RUN, replace(RUN, classes=None, guidance=None), PROMPTED])
def test_a_run_survives_json(run):
    again = runs.from_dict(json.loads(json.dumps(run.to_dict())))
    assert again == run
    assert again.key == run.key


def test_a_run_from_before_there_were_prompts_is_read():
    content = RUN.to_dict()
    assert "prompts" not in content
    assert runs.from_dict(content).prompts is None


def test_a_run_is_read_strictly():
    content = RUN.to_dict()
    with pytest.raises(ValueError, match=r"^unknown or missing: seeed$"):
        runs.from_dict({**content, "seeed": 1})
    del content["seed"]
    with pytest.raises(ValueError, match=r"^unknown or missing: seed$"):
        runs.from_dict(content)


def test_a_run_from_before_there_were_precisions_is_told():
    content = {**RUN.to_dict(), "dtype": "float32"}
    del content["precision"], content["decode_precision"]
    missing = r"^unknown or missing: decode_precision, dtype, precision$"
    with pytest.raises(ValueError, match=missing):
        runs.from_dict(content)


def test_what_is_left_out_is_the_checkpoints_own():
    run = make_run("ucf101-skip", "skip-cache(n=3)")
    assert (run.sampler.name, run.steps, run.guidance) == ("ddim", "50", 7.0)
    assert str(run.cache) == "skip-cache(n=3,window=900-50,branch=1)"
    assert (run.classes, run.seed, run.precision) == (None, 0, "float32")
    run = make_run("taichi", settings={"steps": 20, "seed": "4", "num_samples": 2})
    assert (run.sampler.name, run.steps, run.guidance) == ("ddpm", "20", None)
    assert (str(run.cache), run.seed, run.num_samples) == ("none", 4, 2)


def test_text_models_have_prompts_of_their_own():
    run = make_run("latte-skip", "skip-cache(n=2)")
    assert (run.sampler.name, run.steps, run.guidance, run.precision) == (
        "ddim",
        "ddim50",
        7.5,
        "float16",
    )
    assert run.prompts == prompts.read_prompts("vbench").taken(16).texts
    assert str(run.cache) == "skip-cache(n=2,window=700-50,branch=1)"
    run = make_run("hunyuan-dit", "skip-cache(n=3)", {"prompts": "digits-image", "steps": "25"})
    assert (run.sampler.name, run.steps, run.guidance) == ("ddpm", "25", 6.0)
    assert run.precision == "float16"
    assert run.prompts == prompts.read_prompts("digits-image").texts
    assert str(run.cache) == "skip-cache(n=3,window=700-50,branch=1)"
    run = make_run("painted-digits", settings={"prompts": ("a one", "vbench")})
    assert run.prompts == ("a one", "vbench")  # a tuple is the prompts themselves
    assert run.precision == "float32"
    assert all(make_run(name).prompts is None for name in ("digits", "taichi", "ucf101-skip"))


def test_prompts_of_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("a horse\n\n# not this\na cow\n")
    run = make_run("captioned-digits", settings={"prompts": str(tmp_path / "mine.txt")})
    assert run.prompts == ("a horse", "a cow")


def test_the_canonical_cache_gives_the_same_run():
    run = make_run("dit-xl-2-skip", "skip-cache(n=2)")
    assert make_run("dit-xl-2-skip", str(run.cache)) == run
    assert make_run("dit-xl-2-skip", " skip-cache( branch=4, n=2 )").key == run.key


def test_the_fingerprint_of_the_weights_is_part_of_the_run(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    assert make_run("taichi").weights == "absent"
    file = tmp_path / "weights" / "taichi" / local.WEIGHTS_FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something")
    assert make_run("taichi").weights == local.fingerprint(catalog.card("taichi")) != "absent"
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"something else")
    assert make_run("taichi", weights_path=other).weights == local.fingerprint(
        catalog.card("taichi"), path=other
    )


@pytest.mark.parametrize("model", ["digits", "taichi-skip", "latte-skip", "hunyuan-dit"])
def test_random_weights_lack_nothing(monkeypatch, tmp_path, model):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    run = make_run(model, settings={"weights": "random"})
    assert plan._missing(run, None) == []
    assert run.weights == "random"
    assert run.key != make_run(model).key
    if model == "hunyuan-dit":  # its own prompts are a download
        assert run.prompts == prompts.read_prompts("vbench").taken(16).texts
        assert make_run(model).prompts is None


def test_random_weights_take_a_calibration_of_others():
    run = make_run("digits", "teacache", {"weights": "random"})
    assert str(run.cache) == str(make_run("digits", "teacache").cache)


def test_a_change_of_how_weights_are_drawn_is_another_run(monkeypatch):
    keys = [make_run("digits").key, make_run("digits", settings={"weights": "random"}).key]
    monkeypatch.setattr(run_module, "DRAWING", 99)
    after = [make_run("digits").key, make_run("digits", settings={"weights": "random"}).key]
    assert (keys[0] == after[0], keys[1] == after[1]) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("taichi-skp",), "HERE: unknown model 'taichi-skp'; did you mean 'taichi-skip'?"),
        (("taichi", "skip-cahe"), "HERE: unknown cache 'skip-cahe'; did you mean 'skip-cache'?"),
        (
            ("taichi", "skip-cache(n=2)"),
            "HERE: skip-cache needs skip branches and latte was built without them; "
            "take a model with skip branches (skipdit ls models)",
        ),
        (
            ("dit-xl-2-skip", "skip-cache(branch=14)"),
            "HERE: branch=14 leaves no layer to reuse of 28; branch is at most 13",
        ),
        (("taichi", "none", {"step": 3}), "HERE: unknown setting 'step'; did you mean 'steps'?"),
        (
            ("taichi", "none", {"guidance": 7}),
            "HERE: guidance 7.0 needs classes and taichi is unconditional; leave guidance out",
        ),
        (
            ("taichi", "none", {"classes": [1]}),
            "HERE: classes [1] needs classes and taichi is unconditional; leave classes out",
        ),
        (
            ("digits", "none", {"classes": [0, 10]}),
            "HERE: class 10 is out of range of digits; its classes are 0 to 9",
        ),
        (
            ("digits", "none", {"precision": "float61"}),
            "HERE: unknown precision 'float61'; did you mean 'float16'?",
        ),
        (
            ("hunyuan-dit", "none", {"precision": "bfloat16"}),
            "HERE: hunyuan-dit gives black images in bfloat16; use float16 or float32 or tf32",
        ),
        (
            ("digits", "none", {"decode_precision": "float16"}),
            "HERE: decode_precision float16 needs an autoencoder and digits has none; "
            "leave decode_precision out",
        ),
        (
            ("latte", "none", {"classes": [1]}),
            "HERE: classes [1] needs classes and latte takes text; leave classes out",
        ),
        (
            ("digits", "none", {"prompts": "vbench"}),
            "HERE: prompts vbench needs text and digits takes no text; leave prompts out",
        ),
        (
            ("taichi", "none", {"prompts": "vbench"}),
            "HERE: prompts vbench needs text and taichi takes no text; leave prompts out",
        ),
        (
            ("latte", "none", {"prompts": "vbnch"}),
            "HERE: unknown prompt list 'vbnch'; did you mean 'vbench'?",
        ),
        (
            ("latte", "skip-cache(n=2)"),
            "HERE: skip-cache needs skip branches and latte_t2v was built without them; "
            "take a model with skip branches (skipdit ls models)",
        ),
        (
            ("hunyuan-dit", "skip-cache(branch=20)"),
            "HERE: branch=20 leaves no layer to reuse of 40; branch is at most 19",
        ),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UsageError) as caught:
        make_run(*arguments, place="HERE")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("model", "n", "full"),
    [("ucf101-skip", 2, 28), ("ucf101-skip", 6, 14), ("dit-xl-2-skip", 2, 128)],
)
def test_steps(model, n, full):
    row = plan.plan(make_run(model, f"skip-cache(n={n})"))
    assert row.full_steps == full
    assert row.full_steps + row.cached_steps == row.steps == int(row.run.steps)


def test_guidance_doubles_and_the_batch_multiplies():
    cache = "skip-cache(n=2)"
    unguided = plan.plan(make_run("digits-skip", cache, {"guidance": None}))
    guided = plan.plan(make_run("digits-skip", cache, {"guidance": 4}), batch=3)
    assert (unguided.batch, guided.batch) == (1, 3)
    for count in ("macs_paper", "macs_executed", "flops"):
        assert getattr(guided, count) == 6 * getattr(unguided, count)
    assert guided.ideal_speedup == unguided.ideal_speedup


@pytest.mark.parametrize(("n", "speedup"), [(2, 1.535), (3, 1.871), (4, 2.095)])
def test_ideal_speedups_of_the_image_model(n, speedup):
    """250 steps, the first and last four layers on cached steps; against Skip-DiT."""
    row = plan.plan(make_run("dit-xl-2-skip", f"skip-cache(n={n})"))
    assert row.ideal_speedup == pytest.approx(speedup, abs=5e-4)


def test_no_cache_is_no_faster():
    for cache in ("none", "skip-cache(n=1)"):
        row = plan.plan(make_run("digits-skip", cache))
        assert (row.cached_steps, row.ideal_speedup) == (0, 1.0)


@pytest.mark.slow
def test_disk_is_the_size_of_the_pixels():
    assert plan.plan(make_run("digits", settings={"num_samples": 5})).disk_bytes == 5 * 16 * 16 * 3
    for model, size in (
        ("taichi", 16 * 256 * 256 * 3),  # the autoencoder gives 8 pixels per latent
        ("captioned-digits", 8 * 16 * 16 * 3),
        ("hunyuan-dit", 1024 * 1024 * 3),
    ):
        assert plan.plan(make_run(model, settings={"num_samples": 2})).disk_bytes == 2 * size


def component(home, repository, folder):
    path = home / "components" / repository / folder
    path.mkdir(parents=True)
    return path


def test_what_is_missing(monkeypatch, tmp_path):
    home = tmp_path / "home"
    monkeypatch.setenv("SKIPDIT_HOME", str(home))
    run = make_run("taichi-skip", settings={"num_samples": 3})
    line = "weights, vae: skipdit download taichi-skip --accept-license (about 3.11 GB)"
    assert plan.plan(run).missing == [line]
    assert plan.plan(run, root=tmp_path).missing == [line, "samples: 3 of 3"]
    assert not (tmp_path / "samples").exists()

    run = replace(run, weights="0123456789abcdef")
    line = "vae: skipdit download taichi-skip --accept-license (about 335.0 MB)"
    assert plan.plan(run).missing == [line]
    vae = component(home, "stabilityai--sd-vae-ft-ema", "")
    (vae / local.INCOMPLETE).write_text("")
    assert plan.plan(run).missing == [line]
    (vae / local.INCOMPLETE).unlink()
    assert plan.plan(run).missing == []
    store = open_store(tmp_path, run)
    for index in (0, 2):
        store.write(index, np.zeros((2, 16, 16, 3), np.uint8), meta={})
    assert plan.plan(run, root=tmp_path).missing == ["samples: 1 of 3"]
    assert plan.plan(replace(run, num_samples=1), root=tmp_path).missing == []


@pytest.mark.slow
def test_what_a_text_model_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    line_of_prompts = "prompts: skipdit download coco"
    parts = "vae, tokenizer, text_encoder, tokenizer_2, text_encoder_2"
    run = make_run("hunyuan-dit")
    assert run.prompts is None
    assert plan.plan(run).missing == [
        f"weights, {parts}: skipdit download hunyuan-dit --accept-license (about 14.42 GB)",
        line_of_prompts,
    ]
    for key in ("vae", "tokenizer_2", "text_encoder_2"):
        component(tmp_path, "Tencent-Hunyuan--HunyuanDiT-v1.2-Diffusers", key)
    run = replace(run, weights="0123456789abcdef")
    line = "tokenizer, text_encoder: skipdit download hunyuan-dit --accept-license (about 1.40 GB)"
    assert plan.plan(run).missing == [line, line_of_prompts]
    run = make_run("hunyuan-dit", settings={"prompts": ("a horse",)})
    assert line_of_prompts not in plan.plan(run).missing


def test_embedded_weights_are_not_downloaded(monkeypatch, tmp_path):
    run = replace(make_run("digits"), weights="absent")
    assert plan.plan(run).missing == [
        "weights: they ship with skipdit and are gone; install it again, or make them with "
        f"`skipdit train --model digits --out {shipped.embedded() / 'digits'}`"
    ]
    run = make_run("captioned-digits")
    with monkeypatch.context() as patch:
        patch.setattr(shipped, "embedded", lambda: tmp_path)
        lines = plan.plan(replace(run, weights="absent")).missing
    assert lines == [
        "weights, tokenizer, text_encoder: they ship with skipdit and are gone; install it again"
    ]


def _recipe(**settings):
    row = recipe.RecipeRow("a", "A", {"x": "taichi", "y": "ffs"}, settings={"steps": "20"})
    later = recipe.RecipeRow("b", "B", {"x": "taichi"}, planned="later")
    return recipe.Recipe("own", None, "Own", "paper", (row, later), (), settings)


def test_runs_of_a_recipe():
    found = runs.of_recipe(_recipe(steps="250", seed=5, profile={"batch_size": 1}))
    assert [(row.id, group, run.model) for row, group, run in found] == [
        ("a", "x", "taichi"),
        ("a", "y", "ffs"),
    ]
    assert all((run.steps, run.seed, run.batch_size) == ("20", 5, 4) for *_, run in found)


@pytest.mark.parametrize(
    ("given", "batch_size"),
    [
        ({}, 4),
        ({"num_samples": 40}, 4),
        ({"num_samples": 4}, 4),
        ({"num_samples": 3}, 3),
        ({"num_samples": 4, "batch_size": 8}, 4),
        ({"num_samples": 2, "batch_size": 100_000}, 2),
        ({"num_samples": 40, "batch_size": 8}, 8),
    ],
)
def test_few_samples_are_one_batch_of_no_more(given, batch_size):
    assert make_run("digits", settings=given).batch_size == batch_size


def test_a_run_is_scored_by_the_columns_of_its_group():
    columns = (
        recipe.Column(key="x_fvd", label="FVD", metric="fvd", group="x"),
        recipe.Column(key="y_psnr", label="PSNR", metric="psnr", group="y"),
        recipe.Column(key="ssim", label="SSIM", metric="ssim"),
        recipe.Column(key="lpips", label="LPIPS", metric="lpips", planned="later"),
        recipe.Column(key="macs", label="FLOPs", metric="macs"),
    )
    found = runs.scored(replace(_recipe(), columns=columns))
    assert [(run.model, metrics) for run, metrics in found] == [
        ("taichi", ["fvd", "ssim"]),
        ("ffs", ["psnr", "ssim"]),
    ]


def test_a_row_that_cannot_run_is_named():
    broken = _recipe(guidance=2.0)
    with pytest.raises(UsageError, match=r"^own row a: guidance 2\.0 needs classes"):
        runs.of_recipe(broken)


def test_the_run_behind_the_cost_columns():
    own = _recipe(batch_size=4, num_samples=64)
    run = runs.profile_run(own, own.rows[0])
    assert (run.model, run.steps, run.batch_size, run.num_samples) == ("taichi", "20", 4, 4)
    own = _recipe(profile={"group": "y", "batch_size": 3, "steps": "ddim50", "sampler": "ddim"})
    run = runs.profile_run(own, own.rows[0])
    assert (run.model, run.steps, run.sampler.name) == ("ffs", "ddim50", "ddim")
    assert (run.batch_size, run.num_samples) == (3, 3)


def test_the_run_behind_the_timings():
    """It is that of the counts, unless the recipe says what is timed: then by that alone."""
    counted = {"group": "y", "batch_size": 3, "steps": "ddim50", "sampler": "ddim"}
    own = _recipe(profile=counted)
    assert runs.timed_run(own, own.rows[0]) == runs.profile_run(own, own.rows[0])
    own = _recipe(profile=counted, timing={"batch_size": 1, "steps": "250"}, precision="float16")
    run, counts = (get(own, own.rows[0]) for get in (runs.timed_run, runs.profile_run))
    assert (run.model, run.sampler.name, run.steps) == ("taichi", "ddpm", "250")
    assert (run.batch_size, run.num_samples, run.precision) == (1, 1, "float16")
    assert (counts.model, counts.steps, counts.batch_size) == ("ffs", "ddim50", 3)


def test_guidance_that_is_dropped_costs_half():
    """Four steps of two halves; t-gate keeps guidance or runs the null half alone from step 2."""

    def cost(cache):
        settings = {"steps": "4", "guidance": 2.0, "num_samples": 1, "batch_size": 1}
        return plan.plan(make_run("captioned-digits", cache, settings)).macs_paper

    full = cost("none") // 8  # one half of one step
    kept, dropped = (
        cost(f"t-gate(n=1,gate=2,guidance={guidance})") for guidance in ("true", "false")
    )
    cross = full - (kept - 4 * full) // 4
    assert 0 < cross < full
    assert kept == 4 * full + 4 * (full - cross)
    assert dropped == 4 * full + 2 * (full - cross)


@pytest.mark.slow
def test_fewer_text_tokens_cost_less():
    """12 tokens less of 32: keys and values of 28 layers, and the two linears of the projection."""
    run = make_run("latte", "none", {"steps": "1", "guidance": None})
    full, fewer = (plan.plan(run, text_tokens=tokens).macs_paper for tokens in (None, 20))
    width, frames = 1152, 16
    token = 28 * 2 * width**2 * frames + 4096 * width + width**2
    assert full - fewer == 12 * token
