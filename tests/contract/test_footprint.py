"""The memory of a run, from shapes alone, beside what its loop took on the embedded models."""

from functools import partial
from types import SimpleNamespace

import pytest

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog
from skipdit_cli.generate import keeping, pipelines
from skipdit_cli.generate.footprint import HIGH, LOW, footprint
from skipdit_cli.profiling.latency import peak_bytes
from skipdit_cli.profiling.live import peak
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.body import loop_of
from skipdit_cli.sites import Site
from tests.tiny_pipelines import CALLS, make

# Memory is the same whatever a calibration was made with.
pytestmark = pytest.mark.filterwarnings("ignore:.*calibrated with guidance")
BATCH = 2
CALIBRATED = ("teacache", "mag-cache", "dp-cache")  # for their usual number of steps
SKIP, TEXT = "digits-skip", "captioned-digits"
ON = {"t-gate": TEXT, "adacache": "moving-digits-skip"}
CROSSED = (None, 3.0), (3.0, None)
EXTRAPOLATING = "skip-cache(n=3,order=1)"
RARE = [  # each cache with guidance on one model, and without on the other
    (model, cache, guidance)
    for place, cache in enumerate(registry.names("caches"))
    for model, guidance in zip(("moving-digits-skip", TEXT), CROSSED[place % 2], strict=True)
]


def measured_and_estimated(model, cache, guidance=3.0):
    settings = {"num_samples": BATCH, "batch_size": BATCH, "guidance": guidance}
    run = make_run(model, cache, settings | ({} if cache in CALIBRATED else {"steps": "10"}))
    held = footprint(run)
    took = peak_bytes(partial(loop_of(run), run.cache, brief=True))
    return took, BATCH * (held.step + held.kept)


QUICK = ("fora", "skip-cache", "taylorseer", "teacache", EXTRAPOLATING)


@pytest.mark.parametrize(
    "cache",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in [*registry.names("caches"), EXTRAPOLATING]
    ],
)
def test_the_estimate_of_a_step_is_near_the_truth(cache):
    took, estimated = measured_and_estimated(ON.get(cache, SKIP), cache)
    assert LOW <= estimated / took <= HIGH


@pytest.mark.slow
@pytest.mark.parametrize(("model", "cache", "guidance"), RARE)
def test_it_is_on_other_models_and_without_guidance(model, cache, guidance):
    layout = catalog.card(model)
    if (cache == "t-gate" and not layout.text) or (cache == "skip-cache" and not layout.skip):
        return  # it has no meaning there
    took, estimated = measured_and_estimated(model, cache, guidance)
    assert LOW <= estimated / took <= HIGH


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a tiny pipeline, written once, or the name of one that ships."""
    there = {}

    def find(name):
        if name not in there:
            place = tmp_path_factory.mktemp("pipelines") / name
            there[name] = str(make(name, place)) if name in CALLS else name
        return there[name]

    return find


@pytest.fixture(scope="module")
def uncached():
    """What the loop of a pipeline takes without a cache, measured once."""
    measured = {}

    def find(model, loop, cache):
        if model not in measured:
            measured[model] = peak_bytes(partial(loop, cache.uncached))
        return measured[model]

    return find


ON_PIPELINES = ("fora", "taylorseer", "first-block", "pab", "delta-dit", "faster-cache", "seacache")


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "cache"),
    [(name, cache) for name in ("flow-digits", "wan22", "flux") for cache in ON_PIPELINES],
)
def test_it_is_on_pipelines(name, cache, folder, uncached):
    """Guidance in one doubled batch, in two calls of two transformers, and none."""
    model, settings = folder(name), {"num_samples": 1, "batch_size": 1, "steps": "8"}
    if name != "flow-digits":
        call = {**CALLS[name]}
        del call["num_inference_steps"], call["guidance_scale"]
        settings |= {"call": call, "guidance": 4.0, "prompts": ("a cat",)}
        if cache in ("faster-cache", "seacache"):
            return  # they do not fit
    run = make_run(model, cache, settings)
    held, loop = footprint(run), loop_of(run)
    assert held.counted
    assert held.kept > 0 == footprint(run.reference).kept
    loop(run.cache.uncached, steps="1")  # encodes the text, which is remembered
    took, without = peak_bytes(partial(loop, run.cache)), uncached(model, loop, run.cache)
    assert LOW <= (without + held.kept) / took <= HIGH


@pytest.mark.parametrize("name", ["flow-digits", "wan22", "cogvideox", "sana"])
def test_what_decoding_holds_on_pipelines(name, folder):
    """Frames one after another with what is kept of them, or all of a sample at once.

    Tensors alone; a convolution takes more meanwhile, which depends on the machine.
    """
    model, settings = folder(name), {"num_samples": 1, "batch_size": 1}
    if name != "flow-digits":
        call = {**CALLS[name]}
        steps = str(call.pop("num_inference_steps"))
        settings |= {"guidance": call.pop("guidance_scale"), "steps": steps, "call": call}
        settings["prompts"] = ("a cat",)
    run = make_run(model, "none", settings)
    pipe, took = pipelines.of_run(run), []
    own = pipe.vae.decode

    def decode(*args, **kwargs):
        weights = [*pipe.vae.parameters(), *pipe.vae.buffers()]
        took.append(peak(partial(own, *args, **kwargs), before=weights))
        return own(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe.vae, "decode", decode)
        pipelines.pixels_of(run, [0], pipe=pipe)
    assert footprint(run).pixels == max(took) > 0


@pytest.mark.parametrize(
    "cache", [*registry.names("caches"), "pab(n=3)", "skip-cache(n=3)", EXTRAPOLATING]
)
def test_the_steps_that_are_looked_at_tell_all(cache, monkeypatch):
    steps = {} if cache in CALIBRATED else {"steps": "25"}
    run = make_run(ON.get(cache, SKIP), cache, {"num_samples": 1, "guidance": 3.0} | steps)
    few = keeping.by_network(run)
    monkeypatch.setattr(keeping, "telling", lambda session: range(len(session.timesteps)))
    assert keeping.by_network(run) == few


def test_each_pair_of_neighbours_is_looked_at_once():
    """A step that reuses after a full one, one after a reusing one, and guidance that ends."""
    none, some = frozenset(), frozenset({Site("layer", 1)})
    reused, halves = [none, some, some, none, some, some, none, none], ["both"] * 7 + ["null"]
    session = SimpleNamespace(announced=reused, halves=halves, foreign={}, timesteps=range(8))
    assert list(keeping.telling(session)) == [0, 1, 2, 3, 7]
    session.foreign = {Site("layer", 1): None}  # which counts steps itself
    assert list(keeping.telling(session)) == list(range(8))
    session.announced = None
    session.timesteps = range(100)
    assert list(keeping.telling(session)) == list(range(keeping.DECIDING))


def test_what_is_kept_by_hand():
    """FORA keeps the outputs of two sites in each of six layers, both halves; no cache nothing."""
    settings = {"num_samples": 1, "batch_size": 1, "guidance": 3.0}
    one = 16 * 72 * 4  # bytes of a hidden state of digits
    assert footprint(make_run("digits", "fora(n=2)", settings)).kept == 2 * 6 * 2 * one
    assert footprint(make_run("digits", "none", settings)).kept == 0
    unguided = footprint(make_run("digits", "fora(n=2)", settings | {"guidance": None}))
    assert unguided.kept == 2 * 6 * one
    for order, states in ((0, 1), (1, 2)):  # of the hidden state that enters the last layers
        kept = footprint(make_run(SKIP, f"skip-cache(n=3,order={order})", settings)).kept
        assert kept == states * 2 * one
    half = footprint(make_run("digits", "fora(n=2)", settings | {"precision": "float16"}))
    assert half.kept == 6 * 2 * one


def test_full_size_networks_are_estimated_without_weights():
    """DiT-XL/2 has 675 million parameters; a step of it, of a batch of 1, is tens of megabytes."""
    held = footprint(make_run("dit-xl-2", settings={"num_samples": 1, "precision": "float16"}))
    assert held.weights == pytest.approx(2 * 675.5e6, rel=0.01)
    assert 10e6 < held.step < 50e6
    assert held.autoencoder == pytest.approx(335e6, rel=0.01)
    assert held.encoder == 0
    assert held.peak(1) < held.peak(8)
    room = held.peak(8)
    assert held.fitting(room) >= 8
    assert held.peak(held.fitting(room)) <= room < held.peak(held.fitting(room) + 1)


@pytest.mark.slow
def test_a_text_model_has_its_encoder_before():
    held = footprint(make_run("latte", settings={"num_samples": 1, "prompts": ("a horse",)}))
    assert held.encoder == pytest.approx(11.6e9, rel=0.01)  # T5-XXL in float16, but for its norms
    assert held.decoding > 14 * 3 * 512 * 512 * 4  # 14 frames at once
