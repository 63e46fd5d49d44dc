"""What a run of a pipeline is called with, and which caches fit the call."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from skipdit_cli import registry
from skipdit_cli.cache import NONE, CacheSpec
from skipdit_cli.checkpoints import pipeline
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import MissingAssetError, UsageError, placed
from skipdit_cli.profiling import counts, traced
from skipdit_cli.profiling.traced import Scheduler
from skipdit_cli.recipe import calibration, keywords

if TYPE_CHECKING:
    from skipdit_cli.cache import Cache
    from skipdit_cli.caches import Method
    from skipdit_cli.checkpoints.traced import Traced
    from skipdit_cli.samplers import Sampler


def scheduler(card: Card, name: str, chosen: Mapping[str, Any]) -> "Sampler":
    """The scheduler of a pipeline, where other runs have a sampler.

    Raises:
        UsageError: another one is asked for.
    """
    if name != card.sampling.sampler:
        problem = f"{card.name} has a scheduler of its own, {card.sampling.sampler}"
        raise UsageError(problem, place="--sampler", fix="leave it out")
    negative = chosen.get("negative_prompt") or ""
    return cast("Sampler", Scheduler(card, chosen["guidance"], negative))


def guiding(card: Card, chosen: Mapping[str, Any], *, asked: bool) -> dict[str, Any]:
    """The guidance and the negative prompt of a run of a pipeline; its card's where it makes use of
    that and none was given.

    Args, Raises: as for `guidance`.
    """
    negative: str | None = chosen["negative_prompt"]
    if negative is not None or not (own := card.negative_prompt):
        return {"guidance": guidance(card, chosen, asked=asked)}
    scale = guidance(card, {**chosen, "negative_prompt": own}, asked=asked)
    with placed("--steps"):
        call = traced.traced(card, chosen["steps"], scale, own)
    return {"guidance": scale, "negative_prompt": own if max(call.samples) > 1 else ""}


def guidance(card: Card, chosen: Mapping[str, Any], *, asked: bool) -> float | None:
    """The guidance of a run of a pipeline: None where it would do nothing.

    Some guide where there is a negative prompt alone, whatever the scale.

    Args:
        asked: whether somebody gave it, not the pipeline's class.
    Raises:
        UsageError: it was asked for and does nothing.
    """
    scale: float | None = chosen["guidance"]
    known = pipeline.facts(card.variant)
    if scale is None or scale <= known.off:
        return None
    if chosen["negative_prompt"] or not known.negative:
        return scale
    if not (known.scale and traced.guides_from_negative(card)):
        return scale
    if asked:
        problem = f"{card.variant} has no guidance without a negative prompt"
        fix = 'give --negative-prompt, which may be " "'
        raise UsageError(problem, place=f"--guidance {scale:g}", fix=fix)
    return None


def most_at_once(card: Card, *, asked: int | None) -> int:
    """How many samples a pipeline computes together where nothing is said: 1.

    Raises:
        UsageError: more are asked for than it can take generators for.
    """
    if (asked or 1) > 1 and not pipeline.facts(card.variant).lists:
        problem = f"{card.variant} takes one generator, and so one sample at a time"
        raise UsageError(problem, place="--batch-size", fix="leave it out")
    return 1


def unfit(card: Card, cache: "Cache", call: "Traced") -> str:
    """Why a cache cannot act on a pipeline, or "".

    Args:
        call: of the pipeline.
    """
    method = cache.method
    guided = max(call.samples) > 1
    if method.has("guide") and guided and not call.doubled:
        return "it changes guidance, which is two calls of the transformer"
    looks = method.SEES_INPUT and (guided or not method.has("guide"))
    if looks and traced.input_dims(card) not in (4, 5):
        return "it looks at latents as a picture, and the transformer is given them in a row"
    if cache.name == NONE:
        return ""
    if not cache.hooked:
        return "the transformer has none of the sites that it acts on"
    if len(set(call.batches)) > 1:
        return "guidance ends within the steps, and what a cache keeps is of both halves"
    return ""


def fit(card: Card, name: str) -> str:
    """Whether a caching method fits a pipeline: "fits", or why not."""
    method = registry.load("caches", name)
    layout = counts.layout(card)
    try:
        config = method.Config()
        if method.CALIBRATED:
            _check_turns(card, method)
            config = replace(config, **_some(method, card))
        problem = unfit(card, CacheSpec(method, config).resolve(layout), traced.usual(card))
    except UsageError as error:
        problem = error.problem
    if problem:
        return f"no: {problem}"
    if not method.CALIBRATED:
        return "fits"
    there = calibration.files(card, f"{name}-*.json")
    return "fits, and is calibrated" if there else "fits, once it is calibrated"


def _check_turns(card: Card, method: "Method") -> None:
    """Raise a UsageError where what is measured of all steps would be of two transformers."""
    if len(traced.usual(card).stretches) > 1 and not method.has("in_turn"):
        raise UsageError("its transformers take turns, and it is calibrated for all steps of one")


def _some(method: "Method", card: Card) -> dict[str, Any]:
    """Calibrated settings of the right kind."""
    steps = len(traced.usual(card).timesteps)
    found = method.stand_in(method.Config(), counts.layout(card), steps)
    return {**found} or dict.fromkeys(method.CALIBRATED, (1.0,))


def check_method(card: Card, name: str) -> None:
    """Raise a UsageError where a caching method does not fit a pipeline, whatever its settings."""
    said = fit(card, name)
    if said.startswith("no: "):
        raise _misfit(card, name, said.removeprefix("no: "))


def _misfit(card: Card, name: str, problem: str) -> UsageError:
    call = "".join(f" {shlex.quote(word)}" for word in keywords.written(keywords.differing(card)))
    return UsageError(
        f"{name} does not fit {card.variant}: {problem}",
        fix=f"`skipdit ls caches --pipeline {shlex.quote(card.name)}{call}` tells which do",
    )


def check(card: Card, cache: "Cache", chosen: Mapping[str, Any]) -> None:
    """Raise an error where a setting has no meaning on a pipeline, or needs what is not here."""
    with placed("--steps"):
        traced.call_arguments(card, chosen["steps"], chosen["guidance"])
    negative = chosen["negative_prompt"] or ""
    call = traced.traced(card, chosen["steps"], chosen["guidance"], negative)
    if max(call.samples) > 2:
        problem = f"{card.variant} computes a sample {max(call.samples)} times in a step"
        fix = "leave guidance out that does, as that of skipped layers: two times are counted"
        raise UsageError(problem, place=card.name, fix=fix)
    if problem := unfit(card, cache, call):
        raise _misfit(card, cache.name, problem)
    known = pipeline.facts(card.variant)
    if negative and known.negative and max(call.samples) == 1:
        fix = "leave it out, or give guidance more than 1"
        if "true_cfg_scale" in known.keywords and known.scale != "true_cfg_scale":
            fix = "leave it out, or give --call true_cfg_scale=4"
        problem = "a negative prompt changes nothing without guidance"
        raise UsageError(problem, place="--negative-prompt", fix=fix)
    if chosen["quantize"] and find_spec("torchao") is None:
        fix = "run `pip install 'skipdit[quantize]'`"
        raise MissingAssetError("torchao is not installed", place="--quantize", fix=fix)
    if chosen["guidance"] is not None and not known.scale:
        raise UsageError(
            f"{card.variant} takes no guidance", place="--guidance", fix="leave it out"
        )
    if chosen["negative_prompt"] and not known.negative:
        problem = f"{card.variant} takes no negative prompt"
        raise UsageError(problem, place="--negative-prompt", fix="leave it out")
