"""Any pipeline of diffusers: a cache on it beside diffusers' own, bit for bit."""

import numpy as np
import pytest
import torch

from skipdit_cli.checkpoints import denoiser
from skipdit_cli.checkpoints.denoiser import Blocks
from skipdit_cli.profiling import counts, traced
from tests.contract.piped import FASTER


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
    ratios = ([1.0, 0.99, 0.98, 0.97], [1.0, 0.4, 0.98, 0.97])  # of each transformer

    def config(module):
        turn = piped.modules.index(module)
        steps = piped.traced.turns.count(turn)
        return MagCacheConfig(
            threshold=0.5,
            max_skip_steps=2,
            retention_ratio=0.0,
            num_inference_steps=steps,
            mag_ratios=torch.tensor(ratios[turn][:steps], dtype=torch.float64),
        )

    theirs = own_cache(piped, config)
    turns = zip(ratios, piped.traced.stretches, strict=False)
    given = "/".join(str(ratio) for each, steps in turns for ratio in each[: len(steps)])
    ours, driven = piped.driven(f"mag-cache(threshold=0.5,max_skip=2,retention=0.0,ratios={given})")
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
