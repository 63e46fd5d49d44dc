"""The command that makes a run again, found from its settings and tried before it is told."""

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.errors import SkipditError
from skipdit_cli.recipe import prompts
from skipdit_cli.recipe.runs import make_run

if TYPE_CHECKING:
    from skipdit_cli.run import Run

MOST = 8  # prompts that are written out
PLAIN = (
    *("sampler", "steps", "guidance", "seed", "classes"),
    *("num_samples", "batch_size", "precision", "decode_precision"),
)


def making(run: "Run") -> str:
    """`skipdit sample` with the settings in which a run differs from its model's own.

    Returns:
        The command; "" where there is none that makes these samples on this machine: the weights
        are those of another file, or the prompts are many and of no list that has a name here.
    """
    for spec in (run.cache.short, str(run.cache)):  # what is calibrated is found again, mostly
        for words in _prompts(run):
            settings = _differing(run) | words
            with suppress(SkipditError):
                if make_run(run.model, spec, settings).key == run.key:
                    return _written(run, spec, settings)
    return ""


def _differing(run: "Run") -> dict[str, Any]:
    """Settings of a run that are not those of its model, prompts left out."""
    weights = {"weights": RANDOM} if run.card.random else {}
    own = make_run(run.model, settings=weights)
    settings: dict[str, Any] = {**weights, "compile": True} if run.compile else weights
    for name in PLAIN:
        if (value := getattr(run, name)) != getattr(own, name):
            settings[name] = "none" if value is None else value
    if run.guided and run.negative_prompt != own.negative_prompt:
        settings["negative_prompt"] = run.negative_prompt
    return settings


def _prompts(run: "Run") -> list[dict[str, Any]]:
    """The ways in which a run's prompts can be given, the shortest first."""
    ways: list[dict[str, Any]] = [{}]
    if run.prompts:
        for name in prompts.names():
            with suppress(SkipditError):
                if prompts.read_prompts(name) == run.prompts:
                    ways.append({"prompts": name})
        if len(run.prompts) <= MOST:
            ways.append({"prompts": run.prompts})
    return ways


def _written(run: "Run", spec: str, settings: dict[str, Any]) -> str:
    words = ["skipdit", "sample", "--model", run.model]
    if not run.is_reference:
        words += ["--cache", spec]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if name == "compile":
            words.append(option)
        elif name == "prompts" and not isinstance(value, str):
            for prompt in value:
                words += ["--prompt", prompt]
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [option, text]
    return shlex.join(words)
