"""The command that makes a run again, found from its settings and tried before it is told."""

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.errors import SkipditError
from skipdit_cli.recipe import keywords, prompts
from skipdit_cli.recipe.runs import make_run

if TYPE_CHECKING:
    from skipdit_cli.run import Run

MOST = 8  # prompts that are written out
PLAIN = (
    *("sampler", "steps", "guidance", "seed", "classes"),
    *("num_samples", "batch_size", "precision", "decode_precision", "quantize"),
)


def making(run: "Run") -> str:
    """`skipdit sample` with the settings in which a run differs from its model's own.

    Returns:
        The command; "" where there is none that makes these samples on this machine: the weights
        are those of another file, or the prompts are many and of no list that has a name here.
    """
    for spec in (run.cache.short, str(run.cache)):  # what is calibrated is found again, mostly
        for words in _prompts(run):
            settings = differing(run) | words
            with suppress(SkipditError):
                if make_run(run.model, spec, settings).key == run.key:
                    return _written(run, spec, settings)
    return ""


def differing(run: "Run") -> dict[str, Any]:
    """Settings of a run that are not its model's own, but for prompts, as `make_run` takes them."""
    weights: dict[str, Any] = {"weights": RANDOM} if run.card.random else {}
    weights |= keywords.settings(run)
    own = make_run(run.model, settings=weights)
    settings: dict[str, Any] = {**weights, "compile": True} if run.compile else weights
    for name in PLAIN:
        if name == "sampler" and run.card.pipeline:
            continue  # it has its own
        if (value := getattr(run, name)) != getattr(own, name):
            settings[name] = "none" if value is None else value
    if run.guided and run.negative_prompt != own.negative_prompt:
        settings["negative_prompt"] = run.negative_prompt
    if run.seeds:
        times = _times(run)
        settings |= {"seeds": run.seeds[:times], "num_samples": run.num_samples}
        if run.classes:
            settings["classes"] = run.classes[::times]
    return settings


def _prompts(run: "Run") -> list[dict[str, Any]]:
    """The ways in which a run's prompts can be given, the shortest first."""
    ways: list[dict[str, Any]] = [{}]
    if run.prompts:
        texts = run.prompts[:: _times(run)]
        for name in prompts.names():
            with suppress(SkipditError):
                if set(prompts.read_prompts(name).texts) == set(texts):  # in any order
                    ways.append({"prompts": name})
        if len(texts) <= MOST:
            ways.append({"prompts": texts})
    return ways


def _times(run: "Run") -> int:
    """How many seeds are crossed with the prompts or classes of a run."""
    seeds, subjects = run.seeds or (None,), run.prompts or run.classes
    for times in range(1, len(seeds)):
        same = seeds == seeds[:times] * (len(seeds) // times)
        blocks = not subjects or all(
            subjects[i] == subjects[i - i % times] for i in range(len(subjects))
        )
        if same and blocks:
            return times
    return len(seeds)


def _written(run: "Run", spec: str, settings: dict[str, Any]) -> str:
    folder = run.card.by_path or not os.path.isdir(run.model)  # not one of a shipped one's name
    named = "--pipeline" if run.card.pipeline and folder else "--model"
    words = ["skipdit", "sample", named, run.model]
    if not run.is_reference:
        words += ["--cache", spec]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if name == "compile":
            words.append(option)
        elif name == "call":
            words += keywords.written(value)
        elif name == "prompts" and not isinstance(value, str):
            for prompt in value:
                words += ["--prompt", prompt]
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [option, text]
    return shlex.join(words)
