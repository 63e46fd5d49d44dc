"""A tiny pipeline of diffusers, loaded, beside what the tool knows of its call."""

from pathlib import Path

import torch

from skipdit_cli.checkpoints import pipeline as pipelines
from skipdit_cli.checkpoints import scheduled
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.driven import drive
from skipdit_cli.generate.pipelines import load
from skipdit_cli.profiling import counts, traced
from skipdit_cli.recipe import called, keywords
from skipdit_cli.spec import parse_cache
from tests.tiny_pipelines import CALLS, make

# Of different length: some transformers compute as many tokens as there are.
PROMPT, NEGATIVE = "a dog that chases a red ball over green grass", "a blurred picture"
FASTER = "faster-cache(n=2,below=1000,null_every=2,null_below=1000)"


class Piped:
    """A pipeline, loaded, and what its call does."""

    def __init__(self, name, folder):
        self.name = name
        call = {**CALLS[name]}
        self.steps = str(call.pop("num_inference_steps"))
        card = pipelines.card(str(make(name, folder)))
        known = pipelines.facts(card.variant)
        self.guidance, _ = call.pop(known.scale), call.pop("negative_prompt", "")
        self.negative = NEGATIVE if known.negative else ""
        self.card = keywords.with_call(card, call)
        self.traced = traced.traced(self.card, self.steps, self.guidance, self.negative)
        self.pipe = load(self.card)
        self.pipe.set_progress_bar_config(disable=True)

    @property
    def arguments(self):
        given = traced.call_arguments(self.card, self.steps, self.guidance, self.negative)
        return given | {"prompt": [PROMPT], "output_type": "np"}

    def counted(self, *prompts):
        """The card that a plan counts with."""
        return traced.Scheduler(self.card, self.guidance, self.negative).counted(prompts)

    @property
    def guided(self):
        return max(self.traced.samples) > 1

    @property
    def modules(self):
        return [getattr(self.pipe, name) for name in pipelines.denoisers(self.folder)]

    @property
    def folder(self):
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
