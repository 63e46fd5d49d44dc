"""Any pipeline of diffusers: its call with a cache, beside that alone and what its plan counts.

The pipelines are tiny, of random weights, and of the classes that people use.
"""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.checkpoints import denoiser
from skipdit_cli.checkpoints import pipeline as pipelines
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate.pipelines import called as called_of
from skipdit_cli.generate.pipelines import generator
from skipdit_cli.plan.plan import plan
from skipdit_cli.profiling import counts, traced
from skipdit_cli.recipe import called
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.sites import BOTH
from tests.contract.piped import FASTER, PROMPT
from tests.tiny_pipelines import text

OFF = (
    *("none", "fora(n=1)", "pab(n=1)", "delta-dit(n=1)", "taylorseer(n=1)"),
    *("first-block(threshold=0)", "dbcache(threshold=0)", "seacache(threshold=0)"),
)
FIXED = (
    *("fora(n=2)", "pab(n=2)", "delta-dit(n=2)", "taylorseer(n=3)", "fora(n=2,mlp=false)"),
    *("t-gate(n=2,gate=2,warmup=0)", "t-gate(gate=3,guidance=true,whole=true)", FASTER),
)
DYNAMIC = ("first-block(threshold=9)", "dbcache(threshold=9,max_warmup_steps=1)")


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
    run, costs = flops_of(piped, spec), counts.costs(piped.counted(PROMPT))
    planned = sum(
        costs.step(sites, samples).flops for sites, samples in zip(reused, halves, strict=True)
    )
    assert run == planned


def test_the_middle_prompt_is_counted_where_its_length_costs(piped):
    """Others fill every prompt up; some of these have a mask, with which all is computed."""
    counted = piped.counted("a very long prompt", "a dog", "x")
    if piped.name not in ("qwen-image", "latte", "cogview4"):
        assert counted is piped.card
        return
    assert counted.arguments == piped.card.arguments | {
        "prompt": ["a dog"],
        "negative_prompt": [piped.negative],
    }
    short, long = (counts.costs(piped.counted(text)).total.flops for text in ("x", PROMPT))
    assert short < long


@pytest.mark.parametrize("spec", DYNAMIC)
def test_a_dynamic_method_tells_what_it_reused(piped, spec):
    if not piped.fits(spec):
        pytest.skip(called.unfit(piped.card, piped.cache(spec), piped.traced))
    sample, driven = piped.driven(spec)
    firsts = {steps.start for steps in piped.traced.stretches}
    skipped = [step for step in range(len(piped.traced.turns)) if step not in firsts]
    assert driven.cached_steps == skipped
    assert not np.array_equal(sample, piped.plain())
    cache, costs = piped.cache(spec), counts.costs(piped.counted(PROMPT))
    planned = sum(
        costs.step(cache.skipped if step in skipped else (), samples).flops
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

    alone = traced.call_arguments(piped.card, piped.steps, None) | {"prompt": [PROMPT]}
    conditional = texts(lambda: piped.pipe(**alone, output_type="latent"))
    halved = texts(lambda: piped.driven(FASTER))
    assert conditional
    assert len(conditional) == len(halved)
    assert all(torch.allclose(*both) for both in zip(conditional, halved, strict=True))


def run_of(piped, cache="none", *, negative=True, **call):
    """As a person asks for it, with further arguments of the call."""
    settings = {
        "steps": piped.steps,
        "guidance": piped.guidance,
        "negative_prompt": (negative and piped.negative) or None,
        "call": dict(piped.card.arguments) | call,
        "prompts": (PROMPT,),
        "num_samples": 1,
    }
    return make_run(piped.card.name, cache, settings)


def test_guidance_may_end(piped):
    """As that of Z-Image does at a share of the steps; a plan counts the halves of each step.

    What a cache keeps of two halves is nothing for one.
    """
    if "cfg_truncation" not in pipelines.facts(piped.card.variant).keywords:
        pytest.skip("it takes no such argument")
    run = run_of(piped, cfg_truncation=0.2)
    assert {*run.traced.samples} == {1, 2}
    work = partial(called_of, run, [0], [PROMPT], pipe=piped.pipe, output_type="latent")
    assert plan(run).flops == flops_of(piped, "", work)
    with pytest.raises(UsageError, match="guidance ends within the steps"):
        run_of(piped, "fora(n=2)", cfg_truncation=0.2)


def test_a_negative_prompt_is_empty_where_its_call_wants_one(piped):
    """The code of EasyAnimate fails without one where it guides, and a run has none by itself."""
    sampler = traced.Scheduler(piped.card, piped.guidance)
    assert sampler.traced(piped.steps).wants_negative == (piped.name == "easyanimate")
    if piped.name == "easyanimate":
        run = run_of(piped, negative=False)
        work = partial(called_of, run, [0], [PROMPT], pipe=piped.pipe, output_type="latent")
        assert plan(run).flops == flops_of(piped, "", work)
        arguments = piped.arguments | {"negative_prompt": [""], "output_type": "latent"}
        noise = generator(*run.stream(0))
        assert torch.equal(work()[0], piped.pipe(generator=noise, **arguments)[0])
        with pytest.raises(SkipditError, match="without weights: ZeroDivisionError"):
            run_of(piped, negative=False, num_frames=0)  # and not of the prompt that it lacks


def test_what_computes_a_sample_three_times_is_refused(piped):
    """SD3 with guidance by skipped layers; it was counted as twice."""
    if "skip_guidance_layers" not in pipelines.facts(piped.card.variant).keywords:
        pytest.skip("it takes no such argument")
    skipped = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.0}
    with pytest.raises(UsageError, match="computes a sample 3 times in a step"):
        run_of(piped, **skipped, skip_layer_guidance_stop=1.0)


def flops_of(piped, spec, work=None):
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
        work() if work else piped.driven(spec)
    return total
