"""Labels: what the runs of a table are called, in short and so that they can be told apart."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from skipdit_cli.cache import NONE, Cache, CacheSpec, value_text
from skipdit_cli.recipe import keywords
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.run import Run

SWEPT = ("n", "full", "threshold")  # what a table tells the runs of a method by
ELSEWHERE = (*SWEPT, "window")  # a table has a column of windows
SETTINGS = ("sampler", "steps", "guidance", "seed", "batch_size", "precision", "decode_precision")
LONGEST = 24  # characters of a value


def labels(runs: Sequence[Run]) -> dict[str, str]:
    """The label of every run, by key: `skip-cache n=2 branch=2`, `fora n=3 seed=1`.

    Its method and interval or threshold, then what of the method is not its default or differs
    between runs of the same method and interval, then the settings of generation that differ
    between any of the runs. The window and the model are left out.
    """
    alike: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.model, _begin(run)), []).append(run)
    settings = {run.key: _settings(run) for run in runs}
    differ = _differing(list(settings.values()))
    named = {}
    for group in alike.values():
        weights = len({run.weights for run in group}) > 1
        for run in group:
            words = [_begin(run), *_of_method(run.cache, [each.cache for each in group])]
            words += [_setting(run, name, settings[run.key][name]) for name in differ]
            words += [f"weights={run.weights[:8]}"] if weights else []
            named[run.key] = " ".join(words)
    return named


def about(runs: Sequence[Run]) -> str:
    """What all runs have in common, models apart: `16 samples, ddim 50, guidance 2, seed 0`.

    What else is not the model's own follows: `precision bfloat16`.
    """
    first, all_settings = runs[0], [_settings(run) for run in runs]
    differ = {*_differing(all_settings)}
    parts = {
        "samples": f"{first.num_samples} sample{'s' * (first.num_samples != 1)}",
        "steps": first.sampled,
        "guidance": f"guidance {first.guidance:g}" if first.guidance is not None else "",
        "seed": first.seeded,
    }
    own = make_run(first.model, settings=keywords.settings(first))
    if first.batch_size != min(own.batch_size, first.num_samples):
        parts["batch_size"] = f"batch size {first.batch_size}"
    if (prompts := set(first.prompts or ())) != set(own.prompts or ()):
        parts["prompts"] = f"{len(prompts)} prompt{'s' * (len(prompts) != 1)}"
    if first.guided and first.negative_prompt != own.negative_prompt:
        parts["negative"] = f"negative prompt {all_settings[0]['negative']}"
    for name in ("classes", "precision", "decode_precision"):
        if getattr(first, name) != getattr(own, name):
            parts[name] = f"{name.replace('_', ' ')} {all_settings[0][name]}"
    if first.compile:
        parts["compiled"] = "compiled"
    if first.quantize:
        parts["quantized"] = f"quantized to {first.quantize}"
    differ |= {"samples"} if len({run.num_samples for run in runs}) > 1 else set()
    differ |= {"steps"} if "sampler" in differ else set()
    return ", ".join(text for name, text in parts.items() if text and name not in differ)


def _begin(run: Run) -> str:
    """The method, and the setting that it is swept over, if it has one; no cache has its steps."""
    cache = run.cache
    if cache.name == NONE:
        return f"no cache, {len(run.timesteps)} steps" if run.reference_steps else "no cache (n=1)"
    swept = ((name, cache.setting(name)) for name in SWEPT)
    return " ".join(
        [cache.name, *(f"{name}={value}" for name, value in swept if value is not None)]
    )


def _setting(run: Run, name: str, value: str) -> str:
    if name == "steps" and run.reference_steps:  # it has fewer, which it is called after
        return f"against {value.removeprefix(run.sampler.name)} steps"
    return f"{name}={value}"


def _of_method(cache: Cache, others: Sequence[Cache]) -> list[str]:
    """The other settings of a cache that are not its default, or not the same in all of some."""
    method = cache.method
    own = vars(cache.settings)
    found = (*SWEPT, *method.CALIBRATED)
    given = {name: value for name in found if (value := own.get(name)) is not None}
    usual = vars(CacheSpec(method, method.Config(**given)).resolve(cache.layout).settings)
    return [
        f"{name}={value_text(value)}"
        for name, value in own.items()
        if name not in (*ELSEWHERE, *method.CALIBRATED)
        and (value != usual.get(name) or len({vars(each.settings)[name] for each in others}) > 1)
    ]


def _settings(run: Run) -> dict[str, str]:
    """What of a run is no matter of its cache, as text."""
    values: dict[str, Any] = {name: getattr(run, name) for name in SETTINGS}
    values["sampler"] = run.sampler.name
    values["steps"] = run.reference_steps or run.steps
    values["seed"] = run.seeded.partition(" ")[2]
    if not run.guided:
        values["guidance"] = "none"
    values["classes"] = _first(run.classes)
    values["prompts"] = _first(run.prompts)
    values["negative"] = shorten(run.negative_prompt, LONGEST, placeholder="...")
    values["compiled"] = run.compile
    values["quantized"] = run.quantize or "none"
    return {name: value_text(value) for name, value in values.items()}


def _differing(settings: Sequence[dict[str, str]]) -> list[str]:
    """The names of those that are not the same in all of some."""
    names = settings[0] if settings else {}
    return [name for name in names if len({each[name] for each in settings}) > 1]


def _first(values: Sequence[Any] | None) -> str:
    if not values:
        return "none"
    first, *others = dict.fromkeys(values)  # each once, whatever they are crossed with
    told = shorten(str(first), LONGEST, placeholder="...")
    return f"{told} and {len(others)} more" if others else told
