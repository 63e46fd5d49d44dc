"""Any pipeline of diffusers: its call with a cache, beside that alone and diffusers' own caches.

The pipelines are tiny, of random weights, and of the classes that people use.
"""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.checkpoints import denoiser, scheduled
from skipdit_cli.checkpoints import pipeline as pipelines
from skipdit_cli.checkpoints.denoiser import Blocks
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.driven import drive
from skipdit_cli.generate.pipelines import load
from skipdit_cli.profiling import counts, traced
from skipdit_cli.recipe import called
from skipdit_cli.sites import BOTH
from skipdit_cli.spec import parse_cache
from tests.tiny_pipelines import CALLS, NAMES, make, text

QUICK = ("flux", "wan22")
OFF = (
    *("none", "fora(n=1)", "pab(n=1)", "delta-dit(n=1)", "taylorseer(n=1)"),
    *("first-block(threshold=0)", "dbcache(threshold=0)", "seacache(threshold=0)"),
)
FASTER = "faster-cache(n=2,below=1000,null_every=2,null_below=1000)"
FIXED = (
    *("fora(n=2)", "pab(n=2)", "delta-dit(n=2)", "taylorseer(n=3)", "fora(n=2,mlp=false)"),
    *("t-gate(n=2,gate=2,warmup=0)", "t-gate(gate=3,guidance=true,whole=true)", FASTER),
)
DYNAMIC = ("first-block(threshold=9)", "dbcache(threshold=9,max_warmup_steps=1)")


class Piped:
    """A pipeline, loaded, and what its call does."""

    def __init__(self, name, folder):
        self.name = name
        call = {**CALLS[name]}
        self.steps = str(call.pop("num_inference_steps"))
        card = pipelines.card(str(make(name, folder)))
        known = pipelines.facts(card.variant)
        self.guidance, self.negative = call.pop(known.scale), call.pop("negative_prompt", "")
        self.card = called.with_call(card, call)
        self.traced = traced.traced(self.card, self.steps, self.guidance, self.negative)
        self.pipe = load(self.card)
        self.pipe.set_progress_bar_config(disable=True)

    @property
    def arguments(self):
        given = traced.call_arguments(self.card, self.steps, self.guidance, self.negative)
        return given | {"prompt": ["a"], "output_type": "np"}  # a plan counts so short a prompt

    @property
    def guided(self):
        return max(self.traced.samples) > 1

    @property
    def modules(self):
        return [getattr(self.pipe, name) for name in pipelines.denoisers(self.folder)]

    @property
    def folder(self):
        from pathlib import Path

        return Path(self.card.folder)

    def plain(self):
        """The sample of the pipeline's own call, whose timesteps are told as it comes to them."""
        steps = iter(self.traced.timesteps)
        self.timestep = next(steps)
        self.at = self.calls = 0

        def step(own, *args, **kwargs):
            self.timestep = next(steps, None)
            self.at, self.calls = self.at + 1, 0
            return own(*args, **kwargs)

        end = scheduled.instead(self.pipe.scheduler, step=step)
        try:
            return self.pipe(generator=torch.Generator().manual_seed(3), **self.arguments)[0]
        finally:
            end()

    def cache(self, spec):
        return parse_cache(spec).resolve(counts.layout(self.card))

    def fits(self, spec):
        try:
            return not called.unfit(self.card, self.cache(spec), self.traced)
        except UsageError:  # the layout is not one for it
            return False

    def driven(self, spec):
        return drive(
            self.pipe,
            self.modules,
            self.cache(spec),
            self.traced,
            generator=torch.Generator().manual_seed(3),
            **self.arguments,
        )


@pytest.fixture(
    scope="module",
    params=[
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
    ],
)
def piped(request, tmp_path_factory):
    return Piped(request.param, tmp_path_factory.mktemp("pipelines") / request.param)


def test_what_reuses_nothing_changes_no_bit_and_leaves_nothing_behind(piped):
    plain, before = piped.plain(), left_behind(piped)
    for spec in filter(piped.fits, OFF):
        sample, driven = piped.driven(spec)
        assert np.array_equal(sample, plain), spec
        assert driven.cached_steps == []
    assert left_behind(piped) == before
    assert np.array_equal(piped.plain(), plain)


def test_without_guidance_its_call_is_told_so(piped):
    """A scale of 1, or 0 where 1 is guidance too, in one call of one sample.

    Left out, it would be the pipeline's default.
    """
    arguments = traced.call_arguments(piped.card, piped.steps, None)
    assert arguments[pipelines.facts(piped.card.variant).scale] == (piped.name != "z-image")
    assert set(traced.traced(piped.card, piped.steps, None).samples) == {1}


def left_behind(piped):
    """What stands on the parts of the transformers, and on the scheduler."""
    parts = [part for module in piped.modules for part in module.modules()]
    hooks = [(sorted(vars(part).keys() & {"_diffusers_hook", "forward"})) for part in parts]
    return hooks, [len(part._forward_pre_hooks) for part in parts], piped.pipe.scheduler.step


@pytest.mark.parametrize("spec", FIXED)
def test_a_fixed_method_computes_what_its_plan_says(piped, spec):
    """What is computed is counted by the modules themselves, and priced as in a plan."""
    if not piped.fits(spec):
        pytest.skip("it does not fit")
    sample, _ = piped.driven(spec)
    reused = [
        sites
        for steps in piped.traced.stretches
        for sites in piped.cache(spec).reused(
            piped.traced.timesteps[steps.start : steps.stop], guided=piped.guided
        )
    ]
    computed = piped.cache(spec).halves(piped.traced.timesteps, guided=piped.guided)
    halves = [2 if piped.guided and each == BOTH else 1 for each in computed]
    assert any(reused) == (not np.array_equal(sample, piped.plain()))
    if piped.name == "qwen-image":
        return  # its two calls have as many tokens as their prompts, and cost differently
    run = flops_of(piped, spec)
    costs = counts.costs(piped.card)
    planned = sum(
        costs.step(sites).flops * samples for sites, samples in zip(reused, halves, strict=True)
    )
    assert run == planned


@pytest.mark.parametrize("spec", DYNAMIC)
def test_a_dynamic_method_tells_what_it_reused(piped, spec):
    if not piped.fits(spec):
        pytest.skip(called.unfit(piped.card, piped.cache(spec), piped.traced))
    sample, driven = piped.driven(spec)
    firsts = {steps.start for steps in piped.traced.stretches}
    skipped = [step for step in range(len(piped.traced.turns)) if step not in firsts]
    assert driven.cached_steps == skipped
    assert not np.array_equal(sample, piped.plain())
    if piped.name == "qwen-image":
        return
    costs, cache = counts.costs(piped.card), piped.cache(spec)
    planned = sum(
        costs.step(cache.skipped if step in skipped else ()).flops * samples
        for step, samples in enumerate(piped.traced.samples)
    )
    assert flops_of(piped, spec) == planned


def test_half_of_guidance_is_the_conditional_one(piped):
    """Whichever half of a doubled batch that is: it has the texts of a call without guidance."""
    if not piped.fits(FASTER):
        pytest.skip("it does not fit")

    def texts(call):
        """Of the first call of one sample, all tensors but its latents."""
        seen, own = [], piped.modules[0].forward

        def forward(*args, **kwargs):
            x = denoiser.latents(piped.modules[0], args, kwargs)
            others = [
                each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)
            ]
            if len(x) == 1 and not seen:
                seen.extend(each for each in others if each.shape[-1] == text.WIDTH)
            return own(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(piped.modules[0], "forward", forward)
            call()
        return seen

    alone = traced.call_arguments(piped.card, piped.steps, None) | {"prompt": ["a"]}
    conditional = texts(lambda: piped.pipe(**alone, output_type="latent"))
    halved = texts(lambda: piped.driven(FASTER))
    assert conditional
    assert len(conditional) == len(halved)
    assert all(torch.allclose(*both) for both in zip(conditional, halved, strict=True))


def flops_of(piped, spec):
    """What the transformers really compute in a call, by torch's own counter.

    It knows attention on the CPU as two products of matrices alone.
    """
    total = 0

    def counting(own):
        def forward(*args, **kwargs):
            nonlocal total
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
                result = own(*args, **kwargs)
            total += counted.get_total_flops()
            return result

        return forward

    with pytest.MonkeyPatch.context() as patch:
        for module in piped.modules:
            patch.setattr(module, "forward", counting(module.forward))
        piped.driven(spec)
    return total


def own_cache(piped, config):
    """The sample of the pipeline with diffusers' own cache."""
    from diffusers.hooks.hooks import CacheContext, _set_cache_context
    from diffusers.models import CacheMixin

    own = {module: type(module) for module in piped.modules}
    for module, kind in own.items():
        if not issubclass(kind, CacheMixin):
            module.__class__ = type(kind.__name__, (kind, CacheMixin), {})
        module.enable_cache(config(module))
        _set_cache_context(module, CacheContext("of a pipeline that enters none"))
    try:
        return piped.plain()
    finally:
        for module in piped.modules:
            module.disable_cache()
            module.__class__ = own[module]


def blocks_of(piped, module):
    return Blocks.of(module, piped.traced)


def known_to_diffusers(piped):
    """Whether diffusers knows the class of every block, and of what it returns all is there."""
    from diffusers.hooks._helpers import TransformerBlockRegistry

    TransformerBlockRegistry._register()  # else it is empty until it is first asked
    known = TransformerBlockRegistry._registry
    if not piped.traced.steady:
        return False
    there = piped.name != "sd3"  # whose last block returns no text, which diffusers subtracts
    return there and all(
        type(block := module.get_submodule(path)) in known
        and denoiser.HIDDEN in denoiser.parameters(block)  # which its hooks ask for
        for module in piped.modules
        for path in piped.traced.order
    )


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.3])
def test_first_block_is_diffusers_own(piped, threshold):
    from diffusers import FirstBlockCacheConfig

    if not known_to_diffusers(piped):
        pytest.skip("diffusers has no first-block cache for it")
    theirs = own_cache(piped, lambda module: FirstBlockCacheConfig(threshold=threshold))
    ours, _ = piped.driven(f"first-block(threshold={threshold})")
    assert np.array_equal(ours, theirs)


def test_taylorseer_is_diffusers_own(piped):
    from diffusers import TaylorSeerCacheConfig

    if piped.name in ("chroma", "cogview4"):
        pytest.skip("diffusers takes a second call, of network or MLP, for another step")

    def config(module):
        blocks, names = blocks_of(piped, module), dict(module.named_modules())
        paths = {each: name for name, each in names.items()}
        sites = [paths[part] for site, part in blocks.modules.items() if site.kind != "layer"]
        return TaylorSeerCacheConfig(
            cache_interval=2,
            disable_cache_before_step=1,
            taylor_factors_dtype=None,
            cache_identifiers=sites,
        )

    theirs = own_cache(piped, config)
    ours, driven = piped.driven("taylorseer(n=2,warmup=1,schedule=diffusers)")
    assert driven.cached_steps
    assert np.array_equal(ours, theirs)


def test_pab_is_diffusers_own_where_guidance_is_one_call(piped):
    """Where it is two, diffusers reuses in one what the other computed; here each has its own."""
    from diffusers import PyramidAttentionBroadcastConfig

    if max(piped.traced.calls) > 1:
        pytest.skip("two calls")
    layout = counts.layout(piped.card)
    kinds = [kind for kind in ("spatial", "temporal", "cross") if f"attn.{kind}" in layout.kinds]
    given = {f"{kind}_attention_block_skip_range": 2 for kind in kinds}
    given |= {f"{kind}_attention_timestep_skip_range": (0, 1000) for kind in kinds}
    theirs = own_cache(
        piped,
        lambda module: PyramidAttentionBroadcastConfig(
            **given, current_timestep_callback=lambda: piped.timestep
        ),
    )
    settings = ",".join(f"{kind}=2" for kind in kinds)
    ours, driven = piped.driven(f"pab({settings},window=1000-0,mlp=false)")
    assert driven.cached_steps
    assert np.array_equal(ours, theirs)


def test_mag_cache_is_diffusers_own(piped):
    from diffusers import MagCacheConfig

    if not known_to_diffusers(piped):
        pytest.skip("diffusers has no such cache for it")
    ratios = [1.0, 0.99, 0.98, 0.97]

    def config(module):
        turn = piped.modules.index(module)
        steps = piped.traced.turns.count(turn)
        return MagCacheConfig(
            threshold=0.5,
            max_skip_steps=2,
            retention_ratio=0.0,
            num_inference_steps=steps,
            mag_ratios=torch.tensor(ratios[:steps], dtype=torch.float64),
        )

    theirs = own_cache(piped, config)
    if piped.name == "wan22":
        pytest.skip("its two transformers have a calibration each")
    spec = f"mag-cache(threshold=0.5,max_skip=2,retention=0.0,ratios={'/'.join(map(str, ratios))})"
    ours, driven = piped.driven(spec)
    assert driven.cached_steps
    assert np.array_equal(ours, theirs)


OF_BOTH_HALVES = (  # what transformers are given of each half of guidance; diffusers knows five
    *("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    *("pooled_projections", "text_embedding_mask", "encoder_hidden_states_t5"),
    *("text_embedding_mask_t5", "image_meta_size", "style"),
)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # of diffusers
def test_faster_cache_is_diffusers_own(piped):
    """Of one doubled batch, or without guidance; of two calls it refuses to change guidance."""
    from diffusers import FasterCacheConfig

    layout = counts.layout(piped.card)
    if not piped.fits(FASTER):
        doubled = piped.traced.doubled and traced.input_dims(piped.card) > 3
        assert "attn.spatial" not in layout.kinds or (piped.guided and not doubled)
        pytest.skip("it does not fit")
    if piped.traced.conditional_first:
        pytest.skip("diffusers takes the first half for the null one")
    video = "BCFHW" if denoiser.channel_dim(piped.modules[0]) == 1 else "BFCHW"

    def config(module):
        blocks, names = blocks_of(piped, module), dict(module.named_modules())
        paths = {each: name for name, each in names.items()}
        known = {
            kind: tuple(
                f"^{paths[part]}$" for site, part in blocks.modules.items() if site.kind == kind
            )
            for kind in ("attn.spatial", "attn.temporal")
        }
        return FasterCacheConfig(
            spatial_attention_block_skip_range=2,
            temporal_attention_block_skip_range=2 if known["attn.temporal"] else None,
            spatial_attention_timestep_skip_range=(-1, 1000),
            temporal_attention_timestep_skip_range=(-1, 1000),
            spatial_attention_block_identifiers=known["attn.spatial"],
            temporal_attention_block_identifiers=known["attn.temporal"],
            unconditional_batch_skip_range=2,
            unconditional_batch_timestep_skip_range=(-1, 1000),
            attention_weight_callback=lambda _: 0.5,
            low_frequency_weight_callback=lambda _: 1.1 if 99 < piped.timestep < 901 else 1.0,
            high_frequency_weight_callback=lambda _: 1.1 if piped.timestep < 301 else 1.0,
            tensor_format=video if len(piped.traced.given) == 5 else "BCHW",
            current_timestep_callback=lambda: piped.timestep,
            is_guidance_distilled=not piped.guided,
            _unconditional_conditional_input_kwargs_identifiers=OF_BOTH_HALVES,
        )

    theirs = own_cache(piped, config)
    ours, driven = piped.driven(FASTER)
    assert driven.cached_steps
    assert np.array_equal(ours, theirs)


THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.9)


def test_seacache_is_diffusers_own(piped):
    from diffusers import SeaCacheConfig
    from diffusers.hooks.hooks import CacheContext, _set_cache_context

    if not known_to_diffusers(piped) or traced.input_dims(piped.card) != 5:
        pytest.skip("diffusers has no such cache for it")
    cached = set()

    def clips(module, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        return [*(x if denoiser.channel_dim(module) == 1 else x.transpose(1, 2))]

    def tell(module, *called):
        """What a pipeline says as it enters its context, as diffusers' own for this cache does."""
        steps = next(each for each in piped.traced.stretches if piped.at in each)
        told = {"step_index": piped.at - steps.start, "num_inference_steps": len(steps)}
        told |= {"sigma": piped.traced.sigmas[piped.at]}
        _set_cache_context(module, CacheContext(str(piped.calls), **told))
        piped.calls += 1

    for threshold in THRESHOLDS:
        given = {"threshold": threshold, "retention_steps": 1, "cache_end_steps": 0}
        how = SeaCacheConfig(**given, raw_vision_callback=clips)
        hooks = [module.register_forward_pre_hook(tell) for module in piped.modules]
        theirs = own_cache(piped, lambda module, how=how: how)
        for hook in hooks:
            hook.remove()
        settings = ",".join(f"{name}={value}" for name, value in given.items())
        ours, driven = piped.driven(f"seacache({settings})")
        assert np.array_equal(ours, theirs)
        cached.add(tuple(driven.cached_steps))
    assert len(cached) > 1
