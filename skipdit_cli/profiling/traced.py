"""Traced: what one call of a pipeline does, without its weights, remembered on disk."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints import pipeline
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.profiling.cost import Costs, Decoding, Sizes
from skipdit_cli.profiling.remembered import remembered
from skipdit_cli.sites import Layout, Site

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.hollow import Trace

MOST_STEPS = 1000
LONG = " ".join([pipeline.WORD] * 100)  # longer than what pipelines fill short prompts up to
PROMPT, NEGATIVE = "prompt", "negative_prompt"


@dataclass(frozen=True)
class Scheduler:
    """The scheduler of a pipeline, where a run of ours has a sampler.

    Attributes:
        card: of the pipeline, with the arguments of its call.
        guidance, negative: of the run.
    """

    card: Card
    guidance: float | None
    negative: str = ""

    STOCHASTIC = False

    @property
    def name(self) -> str:
        """Its class."""
        return self.card.sampling.sampler

    def timesteps(self, steps: str) -> list[int]:
        """Those of every step; see `Sampler`."""
        return list(self.traced(steps).timesteps)

    def traced(self, steps: str) -> Traced:
        """What the call does in so many steps.

        Raises:
            UsageError: the pipeline refuses them, or its other arguments.
        """
        return traced(self.card, steps, self.guidance, self.negative)

    def counted(self, prompts: Sequence[str]) -> Card:
        """The card of the pipeline as it is counted: with a prompt among the arguments of its call,
        where a longer one costs more.

        Args:
            prompts: of all samples; the one of middle length is counted, and a word if there is
                none.
        """
        card = self.card
        if not _reads_text(card):
            return card
        middle = sorted(prompts, key=lambda text: (len(text), text))[len(prompts) // 2 :][:1]
        sampling = replace(card.sampling, guidance=self.guidance)
        text = middle[0] if middle else pipeline.WORD
        return _with_text(replace(card, sampling=sampling), text, self.negative)


def _with_text(card: Card, prompt: str, negative: str = "") -> Card:
    text = {PROMPT: [prompt], **({NEGATIVE: [negative]} if negative else {})}
    return replace(card, arguments={**card.arguments, **text})


@functools.cache
def _reads_text(card: Card) -> bool:
    """Whether what a transformer computes depends on the length of a prompt.

    Most are given as many tokens of every prompt, some of these with a mask of those that count.
    """

    def look() -> bool:
        from skipdit_cli.checkpoints import hollow

        arguments = _usual_arguments(card)
        if not hollow.told_apart(Path(card.folder), arguments, (pipeline.WORD, LONG)):
            return False
        short, long = (_with_text(card, pipeline.WORD), _with_text(card, LONG))
        return site_costs(short).total != site_costs(long).total

    found: bool = remembered(card, "reads text", look)
    return found


def call_arguments(
    card: Card, steps: str, guidance: float | None, negative: str = ""
) -> dict[str, Any]:
    """The arguments of a pipeline's call beside prompts and generators.

    Raises:
        UsageError: steps are no number.
    """
    known = pipeline.facts(card.variant)
    if not (steps.isascii() and steps.isdigit() and 1 <= int(steps[:9]) <= MOST_STEPS):
        fix = f"give a number of 1 to {MOST_STEPS}"
        raise UsageError(f"{card.variant} cannot take steps '{steps}'", fix=fix)
    chosen = {**card.arguments, "num_inference_steps": int(steps)}
    if known.scale:  # left out, it would be the pipeline's default
        chosen[known.scale] = known.off if guidance is None else guidance
    if negative:
        chosen[NEGATIVE] = [negative]
    return chosen


@functools.cache
def traced(card: Card, steps: str, guidance: float | None, negative: str = "") -> Traced:
    """What a call of a pipeline does; as `Scheduler.traced`."""
    arguments = call_arguments(card, steps, guidance, negative)
    kept = remembered(
        card, f"trace {sorted(map(str, arguments.items()))}", lambda: _trace(card, arguments)
    )
    found: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
    }
    found["skips"] = tuple((to, source) for to, source in found["skips"])
    found["streams"] = tuple((tuple(names), tuple(at)) for names, at in found["streams"])
    return Traced(**found)


def _trace(card: Card, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from skipdit_cli.checkpoints import hollow

    seen, wants_negative = _seen(card, arguments)
    watched = seen.watched
    found = Traced(
        timesteps=tuple(round(step.timestep) for step in seen.steps),
        sigmas=tuple(step.sigma for step in seen.steps),
        flow=hollow.is_flow(seen.scheduler),
        turns=tuple(step.denoiser for step in seen.steps),
        samples=tuple(step.samples for step in seen.steps),
        calls=tuple(step.calls for step in seen.steps),
        order=tuple(watched.order),
        skips=tuple(watched.skips),
        steady=watched.steady,
        streams=tuple((each.names, each.outputs) for each in watched.streams),
        conditional_first=seen.conditional_first,
        output=seen.output,
        decoding=seen.decoding,
        given=seen.given,
        wants_negative=wants_negative,
    )
    return asdict(found)


def _seen(card: Card, arguments: Mapping[str, Any]) -> "tuple[Trace, bool]":
    """What a call does, and whether it was given an empty negative prompt: the code of a few
    classes fails without one where it guides."""
    from skipdit_cli.checkpoints import hollow

    place = Path(card.folder)
    try:
        return hollow.trace(place, arguments), False
    except UsageError:
        raise
    except SkipditError:
        if NEGATIVE in arguments or not pipeline.facts(card.variant).negative:
            raise
    return hollow.trace(place, {**arguments, NEGATIVE: [""]}), True  # what it raises says more


def guides_from_negative(card: Card) -> bool:
    """Whether a pipeline takes guidance where there is a negative prompt, and else has none."""
    steps, scale = card.sampling.steps, card.sampling.guidance
    without, given = (traced(card, steps, scale, negative) for negative in ("", " "))
    return max(without.samples) < max(given.samples)


def input_dims(card: Card) -> int:
    """How many dimensions the latents have that a transformer is given: 3 of tokens in a row."""
    return len(usual(card).given)


def usual(card: Card) -> Traced:
    """What the call does in its own number of steps, with its own guidance."""
    return traced(card, card.sampling.steps, card.sampling.guidance)


def _usual_arguments(card: Card) -> dict[str, Any]:
    """Those of the usual call, with the empty negative prompt that it may want."""
    empty = {NEGATIVE: [""]} if usual(card).wants_negative else {}
    return call_arguments(card, card.sampling.steps, card.sampling.guidance) | empty


def layout_of(card: Card, count: Callable[[], Layout]) -> Layout:
    """What a cache may know of a network; remembered.

    Args:
        count: finds it out.
    """

    def counted() -> dict[str, Any]:
        found = count()
        return {**asdict(found), "absent": sorted(found.absent)}

    kept = remembered(card, "layout", counted)
    return Layout(
        kept["family"],
        kept["layers"],
        tuple(kept["kinds"]),
        tuple((to, source) for to, source in kept["skips"]),
        frozenset(Site(*each) for each in kept["absent"]),
    )


def blocks(card: Card) -> list[Any]:
    """The blocks of each transformer, on the meta device.

    Raises:
        SkipditError: there are two transformers, and their blocks are not alike.
    """
    from skipdit_cli.checkpoints import hollow_parts
    from skipdit_cli.checkpoints.denoiser import Blocks

    known, folder = usual(card), Path(card.folder)
    modules = {name: hollow_parts.empty(folder, name) for name in pipeline.denoisers(folder)}
    shapes = {
        name: {at: [*each.shape] for at, each in module.named_parameters() if each.dim() > 1}
        for name, module in modules.items()
    }
    first, *others = shapes
    for other in others:
        one, two = shapes[first], shapes[other]
        if at := next((at for at in [*one, *two] if one.get(at) != two.get(at)), ""):
            raise SkipditError(
                f"the transformers of {card.variant} have different blocks: {at} is "
                f"{one.get(at, 'absent')} in {first} and {two.get(at, 'absent')} in {other}",
                place=card.name,
                fix="take a pipeline whose transformers are alike; config.json says what they are",
            )
    return [Blocks.of(each, known) for each in modules.values()]


@functools.cache
def sizes(card: Card) -> Sizes:
    """How much the transformers and one call of one hold, for one sample without guidance."""

    def count() -> list[int]:
        from skipdit_cli.checkpoints.untouched import untouched
        from skipdit_cli.profiling.live import FLOAT32, peak

        seen = shown(card)
        modules = [each.module for each in blocks(card)]
        weights = [[*each.parameters(), *each.buffers()] for each in modules]
        with untouched(seen.values):
            most = peak(lambda: modules[0](**seen.inputs), before=weights[0])
        return [sum(each.numel() for one in weights for each in one), most // FLOAT32]

    weights, step = remembered(card, "sizes", count)
    shape = usual(card).output
    return Sizes(weights, step, (shape[-1], *shape[:-1]), 1, {}, ())


@functools.lru_cache(maxsize=1)
def shown(card: Card) -> "Trace":
    """What the call does, with what a transformer is given in it."""
    from skipdit_cli.checkpoints import hollow

    return hollow.trace(Path(card.folder), _usual_arguments(card))


@functools.cache
def part_sizes(card: Card) -> dict[str, int]:
    """How many numbers the weights of each part are."""

    def count() -> dict[str, int]:
        from skipdit_cli.checkpoints import hollow_parts

        folder = Path(card.folder)
        modules = {name: hollow_parts.blank(folder, name) for name in pipeline.parts(folder)}
        return {
            name: sum(each.numel() for each in module.parameters())
            for name, module in modules.items()
            if module is not None
        }

    known: dict[str, int] = remembered(card, "parts", count)
    return known


def decoding(card: Card) -> Decoding:
    """What decoding one frame takes."""
    shape = usual(card).output
    return Decoding(flops=usual(card).decoding // (shape[0] if len(shape) == 4 else 1))


@functools.cache
def decoded(card: Card) -> int:
    """How many numbers are in memory at most while a sample is decoded, beside weights."""

    def count() -> int:
        from skipdit_cli.checkpoints.untouched import untouched
        from skipdit_cli.profiling.live import FLOAT32, peak

        with untouched():
            held = [
                peak(call, before=[*part.parameters(), *part.buffers()])
                for part, call in shown(card).decodes
            ]
        return max(held, default=0) // FLOAT32

    found: int = remembered(card, "decoded", count)
    return found


def site_costs(card: Card) -> Costs:
    """What a transformer costs for one sample; not remembered.

    Of one call without guidance; of a whole step where the text counts, which may be another in
    each half of guidance.
    """
    from skipdit_cli.checkpoints.untouched import untouched
    from skipdit_cli.profiling.macs import site_costs as counted

    first, seen = blocks(card)[0], shown(card)
    whole = PROMPT in card.arguments
    with untouched(seen.values):
        found = counted(
            first.module, *(seen.first if whole else [seen.inputs]), sites=first.modules
        )
    return replace(found, halves=seen.steps[0].samples) if whole else found
