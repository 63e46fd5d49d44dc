"""What every cache owes every model: exactness, cleanliness, and the work it announced.

A new file in `caches/` is covered as soon as it has an entry in SETTINGS; without one a test fails.
The networks are the embedded architectures with every weight drawn at random, because a freshly
built DiT has zero gates and its layers would do nothing.
"""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import islice

import pytest
import torch

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.errors import UsageError
from skipdit_cli.generate import rng
from skipdit_cli.generate.hooks import attached
from skipdit_cli.generate.loop import denoise
from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.samplers import timesteps
from skipdit_cli.sites import BOTH, KINDS, site_modules
from skipdit_cli.spec import parse_cache

STEPS = "6"
TINY = [name for name, card in catalog.CARDS.items() if card.embedded]
TRAINED = {catalog.CARDS[name].family: catalog.CARDS[name].sampling for name in TINY}


@dataclass(frozen=True)
class Settings:
    """How the suite uses a method.

    Attributes:
        off: a spec that reuses nothing (interval 1, or threshold 0).
        on: a spec that reuses something in STEPS steps; None if the method never does.
        refused: models the method has no meaning on. refusal: what it says about them.
        deciding: of a method that decides while it runs: specs of which at least one, on every
            model, skips some of the steps after the first, and not all of them.
    """

    off: str
    on: str | None
    refused: tuple[str, ...] = ()
    refusal: str = ""
    deciding: tuple[str, ...] = ()


LABELLED = ("digits", "digits-skip", "fashion", "fashion-skip")  # images
IMAGES = (*LABELLED, "painted-digits")
SETTINGS = {
    "adacache": Settings(
        off="adacache(metric_thres=1,cache_rates=1)",
        on="adacache(metric_thres=1,cache_rates=3)",
        deciding=tuple(f"adacache(metric_thres={x}/9,cache_rates=2/1)" for x in (0.2, 0.5, 1, 2)),
        refused=IMAGES,
        refusal="adacache needs temporal attention and {family} has none; "
        "take first-block or teacache, or a video model",
    ),
    "dbcache": Settings(
        off="dbcache(threshold=0,max_warmup_steps=0)",
        on="dbcache(Fn_compute_blocks=1,Bn_compute_blocks=1,threshold=1,max_warmup_steps=2)",
        deciding=tuple(
            f"dbcache(Fn_compute_blocks=1,threshold={x},max_warmup_steps=0)"
            for x in (0.5, 0.8, 0.98)
        ),
    ),
    "dp-cache": Settings(
        off="dp-cache(full=6,steps=0/1/2/3/4/5,coefficients=1/1/1/1/1/1/1/1/1/1/1/1)",
        on="dp-cache(full=3,steps=0/1/4,coefficients=0/0.5/1/0.5/0.9/0)",
    ),
    "faster-cache": Settings(
        off="faster-cache(n=1,null_every=1)",
        on="faster-cache(n=2,below=1000,null_every=3,null_below=1000)",
    ),
    "first-block": Settings(
        off="first-block(threshold=0)",
        on="first-block(threshold=10)",
        deciding=tuple(f"first-block(threshold={x})" for x in (0.5, 0.8, 1.2)),
    ),
    "mag-cache": Settings(
        off="mag-cache(threshold=0,ratios=1/1/1/1/1/1)",
        on="mag-cache(threshold=0.05,max_skip=1,ratios=1/0.98/1.02/0.98/0.9/1.01)",
    ),
    "none": Settings(off="none", on=None),
    "seacache": Settings(
        off="seacache(threshold=0)",
        on="seacache(threshold=100)",
        deciding=tuple(
            f"seacache(threshold={x},max_consecutive_cached=0)" for x in (0.2, 0.5, 1, 2)
        ),
    ),
    "skip-cache": Settings(
        off="skip-cache(n=1)",
        on="skip-cache(n=3)",
        refused=("digits", "fashion", "moving-digits", "captioned-digits"),
        refusal="skip-cache needs skip branches and {family} was built without them; "
        "take a model with skip branches (skipdit ls models)",
    ),
    "taylorseer": Settings(off="taylorseer(n=1)", on="taylorseer(n=3,warmup=2)"),
    "teacache": Settings(
        off="teacache(threshold=0,coefficients=1/0)",
        on="teacache(threshold=100,coefficients=1/0)",
        deciding=tuple(f"teacache(threshold={x},coefficients=1/0)" for x in (0.3, 0.4, 0.5, 0.8)),
    ),
}
SETTINGS |= {
    "delta-dit": Settings(off="delta-dit(n=1)", on="delta-dit(n=2)"),
    "faster-diffusion": Settings(off="faster-diffusion(n=1)", on="faster-diffusion(n=3)"),
    "fora": Settings(off="fora(n=1)", on="fora(n=2)"),
    "pab": Settings(off="pab(n=1)", on="pab(n=2)"),
    "t-gate": Settings(
        off="t-gate(n=1,gate=99)",
        on="t-gate(n=2,gate=4,warmup=0)",
        refused=(*LABELLED, "moving-digits", "moving-digits-skip"),
        refusal="t-gate needs attention to text and {family} has none; "
        "take fora or pab, or a text model",
    ),
}
BRANCHES = {"conditional": 0, "null": 200}  # of guidance, and the seeds of their inputs
COVERED = [(name, s) for name in registry.names("caches") if (s := SETTINGS.get(name))]
ORDER = {"off": "skip-cache(n=1,order=1)", "on": "skip-cache(n=3,order=1)"}
COVERED += [("skip-cache", replace(SETTINGS["skip-cache"], **ORDER))]
FIRST = ("digits-skip",)  # of the default tests; the others are slow


def cell(s, model, *values):
    """A method on a model, and what a test wants of it."""
    here = model in FIRST or ({*FIRST} <= {*s.refused} and model == "captioned-digits-skip")
    return pytest.param(*values, model, marks=() if here else pytest.mark.slow)


FITTING = [(s, model) for _, s in COVERED for model in TINY if model not in s.refused]
PAIRS = [cell(s, model, s) for s, model in FITTING]
WORKING = [cell(s, model, s.on) for s, model in FITTING if s.on]
# With its off spec a method is bit-identical to none (tested), so the rest takes the other one.
ALL_SPECS = [cell(s, model, s.on or s.off) for s, model in FITTING]
ALONE = [
    cell(s, model, s.on or s.off) for s, model in FITTING if not parse_cache(s.off).method.BY_BATCH
]
DYNAMIC = [cell(s, model, s) for s, model in FITTING if parse_cache(s.off).method.DYNAMIC]
REFUSED = [(spec, s.refusal, m) for _, s in COVERED for m in s.refused for spec in (s.off, s.on)]


def test_every_cache_is_covered():
    assert set(SETTINGS) == set(registry.names("caches"))
    assert {model for s in SETTINGS.values() for model in s.refused} <= set(TINY)
    assert all(len(s.refused) < len(TINY) for s in SETTINGS.values())


@cache
def network(name):
    """The embedded architecture; linears keep the size of what they are given."""
    model = networks.build(catalog.card(name), device="cpu").requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(7)
    for key, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
        else:
            parameter.copy_(0.1 * noise + ("norm.weight" in key))
    return model


def conditions(model, indices, *, null=False):
    """Of samples by their indices: class labels 0, 1, ... or random texts, and those of nothing."""
    given = model.inputs(1)
    found = {}
    for key in given.keys() - {"hidden_states", "timestep"}:
        if key == "class_labels":
            known = model.config.num_classes
            found[key] = torch.tensor([known if null else i % known for i in indices])
        elif key.startswith("text_embedding_mask"):
            found[key] = given[key].expand(len(indices), -1)
        else:
            generators = [torch.Generator().manual_seed(0 if null else 9 + i) for i in indices]
            found[key] = torch.stack(
                [torch.randn(given[key].shape[1:], generator=g) for g in generators]
            )
    return found


def sample(model, spec, *, indices=(0,), on_step=None):
    shape = model.inputs(1)["hidden_states"].shape[1:]
    given = conditions(model, indices)

    def noise(step):
        return rng.batch_normal(shape, seed=3, indices=indices, step=step)

    return denoise(
        model,
        noise(rng.INITIAL),
        cache=parse_cache(spec).resolve(model.layout()),
        sampler=registry.load("samplers", "ddim"),
        steps=STEPS,
        step_noise=noise,
        conditions=given,
        null=conditions(model, indices, null=True),
        guidance=2.0 if given else None,
        trained=TRAINED[model.layout().family],
        on_step=on_step,
    )


@cache
def sampled(spec, model):
    """A sample of a model by its name, made once for all that compare with it."""
    return sample(network(model), spec)


def call(model, seed, *, timestep=500):
    """One forward on an input that the seed draws."""
    shape = model.inputs(1)["hidden_states"].shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    t = torch.full((1,), timestep)
    return model(x, t, **conditions(model, range(1)), return_dict=False)[0]


def outputs(model, session, branch, *, seed=0):
    """One call per step, on inputs that seed + step draws."""
    for step, t in enumerate(session.timesteps):
        session.begin(step, branch=branch)
        yield call(model, seed + step, timestep=t)


@cache
def alone(spec, model):
    """(outputs of a cache on a model by its name, whether each step reused something)."""
    with attached(
        network(model), parse_cache(spec).resolve(network(model).layout()), timesteps(STEPS)
    ) as session:
        found = list(outputs(network(model), session, "conditional"))
        return found, [bool(sites) for sites in session.reused]


@pytest.mark.parametrize(("settings", "model"), PAIRS)
def test_interval_one_is_bit_identical_to_no_cache(settings, model):
    assert torch.equal(sample(network(model), settings.off), sampled("none", model))


@pytest.mark.parametrize(("spec", "model"), WORKING)
def test_a_working_cache_skips_work_and_changes_the_sample(spec, model):
    """Every step that reuses something, and every other not by a bit.

    A random network attends to its text nearly alike at all steps, and samples grow until they
    drown what a step adds, so the bounds are low.
    """
    (cached, reused), (uncached, _) = alone(spec, model), alone("none", model)
    assert any(reused)
    assert not reused[0]
    for ours, theirs, some in zip(cached, uncached, reused, strict=True):
        if some:
            assert (ours - theirs).abs().max() > 1e-3 * theirs.abs().max()
        else:
            assert torch.equal(ours, theirs)
    cached, uncached = sampled(spec, model), sampled("none", model)
    assert (cached - uncached).abs().max() > 1e-5 * uncached.abs().max()


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_two_runs_in_a_row_agree(spec, model):
    assert torch.equal(sample(network(model), spec), sampled(spec, model))


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_a_reset_session_starts_over(spec, model):
    first, _ = alone(spec, model)
    with attached(
        network(model), parse_cache(spec).resolve(network(model).layout()), timesteps(STEPS)
    ) as session:
        list(islice(outputs(network(model), session, "conditional", seed=50), 4))
        session.reset()
        assert not session.computed
        again = list(outputs(network(model), session, "conditional"))
    assert all(map(torch.equal, first, again))


def attributes(model):
    """Every attribute of every module, by identity; dictionaries by their content."""
    return {
        name: {
            key: {k: id(v) for k, v in value.items()} if isinstance(value, dict) else id(value)
            for key, value in vars(module).items()
        }
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_the_model_is_as_it_was(spec, model):
    """However the cache is left: in order, or by an error in the block or in the network."""
    model, session, ending = network.__wrapped__(model), None, ""  # one that no cache has been on

    def fail(*_):
        if ending == "error in the network" and session is not None and session.step == 1:
            raise RuntimeError("on purpose")

    handle = next(iter(site_modules(model).values())).register_forward_pre_hook(fail)
    try:
        before, expected = attributes(model), call(model, 0)
        for ending in ("left", "error in the block", "error in the network"):
            expected_error = pytest.raises(RuntimeError, match="on purpose")
            with (
                nullcontext() if ending == "left" else expected_error,
                attached(
                    model, parse_cache(spec).resolve(model.layout()), timesteps(STEPS)
                ) as session,
            ):
                for step, t in enumerate(timesteps(STEPS)[:2]):
                    session.begin(step)
                    call(model, step, timestep=t)
                if ending == "error in the block":
                    raise RuntimeError("on purpose")
            assert attributes(model) == before, ending
            assert not session.stores, ending
            assert torch.equal(call(model, 0), expected), ending
    finally:
        handle.remove()


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_guidance_branches_do_not_leak(spec, model):
    """Two calls per step, one for each branch, against a generation of each branch alone."""
    first, _ = alone(spec, model)
    model, steps = network(model), timesteps(STEPS)
    with attached(model, parse_cache(spec).resolve(model.layout()), steps) as session:
        second = list(outputs(model, session, "null", seed=200))
    with attached(model, parse_cache(spec).resolve(model.layout()), steps) as session:
        branches = (outputs(model, session, name, seed=s) for name, s in BRANCHES.items())
        together = list(zip(*branches, strict=True))
    assert all(map(torch.equal, first, (one for one, _ in together)))
    assert all(map(torch.equal, second, (other for _, other in together)))


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_what_is_computed_is_what_was_announced(spec, model):
    """Counted twice: by the session, and by hooks on the layers inside each site.

    A site was computed if anything inside it was called. The innermost modules are watched, since
    a site's own hooks also fire when its forward is replaced.
    """
    model, run = network(model), runs.make_run(model, spec, {"steps": STEPS})
    sites = site_modules(model)
    calls, finished = Counter(), []
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    names = {id(module): name for name, module in model.named_modules()}
    inside = {
        site: [names[id(m)] for m in module.modules() if not list(m.children())]
        for site, module in sites.items()
    }
    assert all(inside.values())

    def on_step(session, x):
        finished.append({site for site, leaves in inside.items() if any(calls[x] for x in leaves)})
        assert max(calls.values()) == 1  # nothing runs twice
        calls.clear()
        if session.step == len(timesteps(STEPS)) - 1:
            counted.update(session.computed)
            announced.extend(session.reused)
            alone.extend(session.guided and each != BOTH for each in session.halves)

    counted, announced, alone = Counter(), [], []
    try:
        sample(model, spec, on_step=on_step)
    finally:
        for handle in handles:
            handle.remove()
    assert finished == [set(sites) - reused for reused in announced]

    resolved = parse_cache(spec).resolve(model.layout())
    hooked = resolved.hooked
    expected = {
        (step, site)
        for step, reused in enumerate(announced)
        for site in hooked
        if site not in reused
    }
    assert counted == Counter(expected)

    if resolved.method.DYNAMIC:
        unknown = plan.plan(run)
        assert (unknown.steps, unknown.full_steps, unknown.flops) == (len(announced), None, None)
    planned = plan.plan(run, seen=announced if resolved.method.DYNAMIC else None)
    assert planned.steps == len(announced) == len(timesteps(STEPS))
    full = [not half and done == set(sites) for half, done in zip(alone, finished, strict=True)]
    assert (planned.full_steps, planned.cached_steps) == (sum(full), len(full) - sum(full))


def assert_alone_as_in_a_batch(spec, model):
    """The samples of a random network grow, so the bound is relative."""
    together = sample(model, spec, indices=(0, 1, 2, 3))
    alone = sample(model, spec, indices=(2,))[0]
    assert (alone - together[2]).abs().max() <= 1e-4 * together[2].abs().max()
    assert (together[0] - together[2]).abs().max() > 0.1 * together.abs().max()


@pytest.mark.parametrize(("spec", "model"), ALONE)
def test_a_sample_does_not_depend_on_its_batch(spec, model):
    assert_alone_as_in_a_batch(spec, network(model))


def decided(model, spec):
    """Which steps after the first were skipped as a sample was made."""
    steps = []

    def on_step(session, x):
        if session.step == len(session.timesteps) - 1:
            steps.extend(bool(sites) for sites in session.reused[1:])

    sample(model, spec, on_step=on_step)
    return steps


@pytest.mark.parametrize(("settings", "model"), DYNAMIC)
def test_a_dynamic_method_decides_both_ways(settings, model):
    """Some steps are skipped, some are not; a method that says so decides for each sample alone."""
    specs = settings.deciding
    both = [spec for spec in specs if len(set(decided(network(model), spec))) == 2]
    assert both
    if not parse_cache(settings.off).method.BY_BATCH:
        for spec in both:
            assert_alone_as_in_a_batch(spec, network(model))


@pytest.mark.parametrize(("spec", "refusal", "model"), REFUSED)
def test_a_model_without_meaning_is_refused(spec, refusal, model):
    model = network(model)
    before = attributes(model)
    with (
        pytest.raises(UsageError) as caught,
        attached(model, parse_cache(spec).resolve(model.layout()), [999, 0]),
    ):
        pass
    assert str(caught.value) == refusal.format(family=model.layout().family)
    assert attributes(model) == before


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_the_resolved_spec_reads_back(spec, model):
    layout = network(model).layout()
    resolved = parse_cache(spec).resolve(layout)
    assert parse_cache(str(resolved)).resolve(layout) == resolved


@pytest.mark.parametrize(("spec", "model"), ALL_SPECS)
def test_a_cache_names_sites_that_the_model_has(spec, model):
    model = network(model)
    resolved = parse_cache(spec).resolve(model.layout())
    assert set(resolved.hooked) <= set(site_modules(model))
    if resolved.method.DYNAMIC:
        reused = [resolved.skipped]
    else:
        reused = resolved.reused(timesteps(STEPS), guided=False)
    for sites in reused:
        assert sites <= set(site_modules(model))
    steps = timesteps(STEPS)
    hooks = resolved.method.hooks(resolved.settings, model.layout(), steps, guided=False)
    assert set(hooks) in (set(), set(resolved.hooked))


@pytest.mark.parametrize("model", TINY)
def test_a_model_announces_the_sites_it_has(model):
    layout, sites = network(model).layout(), site_modules(network(model))
    assert {site.kind for site in sites} == {"layer", *layout.kinds} <= set(KINDS)
    assert {(site.kind, site.layer) for site in sites} == {
        (kind, layer) for kind in ("layer", *layout.kinds) for layer in range(layout.layers)
    }
    assert len({id(module) for module in sites.values()}) == len(sites)


@pytest.mark.parametrize("name", registry.names("caches"))
def test_a_method_explains_itself(name):
    module = registry.load("caches", name)
    assert registry.summary("caches", name).endswith((".", ")"))
    assert is_dataclass(module.Config)
    assert module.Config.__dataclass_params__.frozen
    for field in fields(module.Config):
        assert f"{field.name}: " in module.Config.__doc__
