"""Runs: what a recipe, a command or a file on disk asks for, read into Run objects.

Text ends here: models, caches, samplers and prompt lists are looked up once, and everything left
out is filled in.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import NONE, CacheSpec
from skipdit_cli.checkpoints import catalog, drawn, local
from skipdit_cli.checkpoints.card import RANDOM, Card
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError, placed, unknown
from skipdit_cli.profiling import counts
from skipdit_cli.recipe import calibration, called, keywords, prompts
from skipdit_cli.recipe.prompts import Prompts
from skipdit_cli.recipe.recipe import TIMINGS
from skipdit_cli.recipe.settings import SETTINGS, over, setting
from skipdit_cli.recipe.shape import Recipe, RecipeRow
from skipdit_cli.run import Run
from skipdit_cli.spec import parse_cache
from skipdit_cli.storage.kept import fits
from skipdit_cli.storage.store import keys, maker, read_run

if TYPE_CHECKING:
    from skipdit_cli.samplers import Sampler

DEFAULTS: dict[str, Any] = {
    "num_samples": None,
    "batch_size": None,
    "seed": None,
    "seeds": None,
    "classes": None,
    "negative_prompt": None,
    "compile": False,
    "quantize": "",
    "call": None,
    "weights": None,
    "decode_precision": "float32",
    "reference_steps": None,
}
NUM_SAMPLES = 16  # where nothing says how many
MOST_CROSSED = 1_000_000  # prompts or classes times seeds
STAND_IN = "vbench"  # the prompts of a dry run whose own are a download that is not here
BATCH = 4  # samples computed together where 4 or more are wanted: such runs share samples
SHAPE: dict[str, Any] = {  # of a run on disk
    **dict.fromkeys(("model", "cache", "sampler", "steps", "weights"), str),
    **dict.fromkeys(("precision", "decode_precision", "quantize"), str),
    **dict.fromkeys(("seed", "num_samples", "batch_size"), int),
    "guidance": float | None,
    "classes": list[int] | None,
    "seeds": list[int] | None,
    "prompts": list[str] | None,
    "names": list[str] | None,
    "negative_prompt": str,
    "compile": bool,
}


def make_run(
    model: str,
    cache: str | CacheSpec = NONE,
    settings: Mapping[str, Any] | None = None,
    *,
    weights_path: Path | None = None,
    place: str = "",
) -> Run:
    """A Run with everything resolved.

    Args:
        model: name of a checkpoint.
        cache: a spec, as text or parsed; the defaults of the model's family, and its calibration,
            are filled in.
        settings: any of SETTINGS and `classes` (integers); what is left out is the checkpoint's
            own default. `prompts` may also be the prompts themselves, as a tuple. `seeds` are
            crossed with prompts or classes: all seeds of the first come first. With seeds there are
            as many samples as that, else 16.
        weights_path: a checkpoint file instead of the known place.
        place: what errors name.
    Raises:
        UsageError: unknown name, a cache without meaning on this model, a class out of range,
            guidance of an unconditional model, prompts of one that takes no text, a negative
            prompt where there is no guidance, seeds given twice, or a precision that the model
            cannot take.
        MissingAssetError: the cache has to be calibrated on this model first.
    """
    card = catalog.card(model, place=place)
    sampling = {
        "sampler": card.sampling.sampler,
        "steps": card.sampling.steps,
        "guidance": card.sampling.guidance,
        "precision": card.precisions[0],
        "prompts": card.prompts or None,
    }
    chosen: dict[str, Any] = {**DEFAULTS, **sampling}
    for key, value in (settings or {}).items():
        if key not in chosen:
            raise unknown("setting", key, chosen, place=place)
        known = key in SETTINGS and not isinstance(value, tuple)
        chosen[key] = setting(key, value, place=place) if known else value
    call = chosen.pop("call") or {}
    card = drawn.card(card) if chosen.pop("weights") == RANDOM else card
    card = keywords.with_call(card, call, place=place or "--call")
    fingerprint = local.fingerprint(card, path=weights_path)
    with placed(place):
        if card.pipeline:
            asked = "guidance" in (settings or {})
            chosen |= called.guiding(card, chosen, asked=asked)
        elif chosen["guidance"] == 1:  # the conditional output alone
            chosen["guidance"] = None
        sampler = sampler_of(card, chosen.pop("sampler"), chosen)
        spec = calibration.complete(
            parse_cache(cache, place=place) if isinstance(cache, str) else cache,
            card,
            fingerprint=fingerprint,
            sampler=sampler,
            steps=chosen["steps"],
            guidance=chosen["guidance"],
            texts=chosen["prompts"],
            place=place,
        )
        resolved = spec.resolve(counts.layout(card))
        if card.pipeline:
            called.check(card, resolved, chosen)
        _check(card, chosen)
        own = "prompts" not in (settings or {})
        listed = _listed(chosen["prompts"], card, place=f"prompts of {model}" if own else place)
        chosen |= _in_turn(chosen, listed)
    if chosen["reference_steps"] == chosen["steps"]:
        chosen["reference_steps"] = None
    # what nobody asked for is not computed
    most = BATCH if not card.pipeline else called.most_at_once(card, asked=chosen["batch_size"])
    chosen["batch_size"] = min(chosen["batch_size"] or most, chosen["num_samples"])
    if chosen["negative_prompt"] is None:
        chosen["negative_prompt"] = card.negative_prompt if chosen["guidance"] else ""
    return Run(card=card, cache=resolved, sampler=sampler, weights=fingerprint, **chosen)


def from_dict(content: Mapping[str, Any]) -> Run:
    """The inverse of `Run.to_dict`.

    Raises:
        ValueError: the keys are not those of a run.
        UsageError: a model, cache or sampler that is not known here.
    """
    absent = dict.fromkeys(("prompts", "seeds", "names"))
    content = {**absent, "negative_prompt": "", "quantize": "", **content}
    content.pop("versions", None)  # what is installed now is what counts
    call = content.pop("call", {})
    if differ := sorted(SHAPE.keys() ^ content.keys()):
        raise ValueError(f"unknown or missing: {', '.join(differ)}")
    for name, kind in SHAPE.items():
        if not fits(content[name], kind):
            raise ValueError(f"its {name} cannot be {str(content[name])[:40]!r}")
    card = catalog.of_run(content.pop("model"), content["weights"])
    card = drawn.card(card) if content["weights"] == RANDOM else card
    bare = replace(card, arguments={}) if card.pipeline else card  # card.json may say others now
    card = keywords.with_call(bare, call)
    objects = {
        "cache": parse_cache(content["cache"]).resolve(counts.layout(card)),
        "sampler": sampler_of(card, content["sampler"], content),
        "classes": tuple(content["classes"] or ()) or None,
        **{name: tuple(content[name] or ()) or None for name in absent},
    }
    return Run(card=card, **{**content, **objects})


def sampler_of(card: Card, name: str, chosen: Mapping[str, Any]) -> "Sampler":
    """The sampler of a name; of a pipeline its own scheduler."""
    if card.pipeline:
        return called.scheduler(card, name, chosen)
    return registry.load("samplers", name)


def find_run(root: Path, key: str) -> Run:
    """The run under a results folder whose key starts with `key`.

    Raises:
        UsageError: no run or several runs match, or the code that made the run has changed.
        StoreError: what is on disk does not describe a run.
    """
    known = keys(root)
    matching = [each for each in known if each.startswith(key)]
    if len(matching) != 1:
        listed = matching or known
        names = ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
        raise UsageError(
            f"run '{key}' is ambiguous" if matching else f"unknown run '{key}'",
            place=str(root),
            fix=f"there are {names}" if names else "there are no runs here yet",
        )
    place = str(root / "samples" / matching[0] / "run.json")
    try:
        with placed(place):
            run = from_dict(read_run(root, matching[0])["run"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"does not describe a run ({error!r})", place=place) from None
    if run.key != matching[0]:
        raise UsageError(
            f"run {matching[0]} was made by code that differs from what is installed now",
            place=place,
            fix=f"run {maker(root / 'samples' / matching[0])} to make its samples anew",
        )
    return run


def of_recipe(recipe: Recipe) -> list[tuple[RecipeRow, str, Run]]:
    """(row, group, run) of every row that is not planned, in the order of the table."""
    triples = []
    for row in recipe.rows:
        for group, model in row.models.items() if row.planned is None else ():
            settings, place = _settings(recipe, row), f"{recipe.name} row {row.id}"
            run = make_run(model, row.cache, settings, place=place)
            triples.append((row, group, _of_fewer(run, row, group, place=place)))
    return triples


def _of_fewer(run: Run, row: RecipeRow, group: str, *, place: str) -> Run:
    """The run of a row; where the row has fewer steps, with so many."""
    if group not in row.fewer_steps:
        return run
    with placed(place):
        return with_steps(run, row.fewer_steps[group])


def with_steps(run: Run, count: int) -> Run:
    """The uncached run of so many steps, scored against that of all steps.

    They are spaced as the run's own where its sampler can take so many so, else evenly.

    Raises:
        UsageError: the sampler cannot take so many steps, or they are no fewer.
    """
    reference = run.reference
    if count >= len(reference.timesteps):
        raise UsageError(f"{count} steps are no fewer than {len(reference.timesteps)}")
    for text in (re.sub(r"\d+", str(count), reference.steps, count=1), str(count)):
        with suppress(UsageError):
            if len(reference.sampler.timesteps(text)) == count:
                return replace(reference, steps=text, reference_steps=reference.steps)
    raise UsageError(f"{reference.sampler.name} cannot take {count} steps")


def scored(recipe: Recipe) -> list[tuple[Run, list[str]]]:
    """The runs of a recipe, each with the metrics that the columns of its group name."""
    return [(run, metrics) for _, run, metrics in jobs_of(recipe)]


def jobs_of(recipe: Recipe) -> list[tuple[RecipeRow, Run, list[str]]]:
    """The same, each with its row."""
    return [
        (row, run, [column.metric for column in recipe.scored if column.group in ("", group)])
        for row, group, run in of_recipe(recipe)
    ]


def profile_run(recipe: Recipe, row: RecipeRow, group: str = "") -> Run:
    """The run that the counted columns (MACs, FLOPs) of a row are about: one batch.

    Args:
        row: one that has runs.
        group: of the columns; "" where they have none.
    """
    about = recipe.settings.get("profile", {})
    return _cost_run(recipe, row, {**about, "group": group} if group else about)


def timed(recipe: Recipe) -> list[Run]:
    """The runs that are timed, one batch each; none where no column asks for it."""
    if not any(column.metric in TIMINGS for column in recipe.columns):
        return []
    of_runs = (row for row in recipe.rows if row.planned is None and row.models)
    return [timed_run(recipe, row) for row in of_runs]


def timed_run(recipe: Recipe, row: RecipeRow) -> Run:
    """The run that the timed columns (latency, speedup, memory) of a row are about: one batch.

    It is that of `profile_run` unless the recipe has a `timing` of its own.
    """
    settings = recipe.settings
    return _cost_run(recipe, row, settings.get("timing", settings.get("profile", {})))


def _cost_run(recipe: Recipe, row: RecipeRow, about: Mapping[str, Any]) -> Run:
    settings = _settings(recipe, row) | {**about}
    if about.get("guidance", "") in (None, 1):
        settings.pop("negative_prompt", None)
    group = settings.pop("group", None) or next(iter(row.models))
    settings["num_samples"] = settings.setdefault("batch_size", BATCH)
    place = f"{recipe.name} row {row.id}"
    run = make_run(row.models[group], row.cache, settings, place=place)
    return _of_fewer(run, row, group, place=place)


def _settings(recipe: Recipe, row: RecipeRow) -> dict[str, Any]:
    """What the row's samples are made with, its own settings before the recipe's."""
    both = over(recipe.settings, row.settings)
    return {key: value for key, value in both.items() if key in SETTINGS}


def _listed(given: Any, card: Card, *, place: str) -> Prompts | None:
    """The prompts of a setting; None without, and where a model's own have to be fetched first."""
    if not isinstance(given, str):
        return None if given is None else Prompts(prompts.all_checked(given, place=place))
    try:
        return prompts.read_prompts(given, place=place)
    except MissingAssetError:  # costs can be counted without prompts
        if card.random:
            return prompts.read_prompts(STAND_IN)
        if given == card.prompts:
            return None
        raise


def _in_turn(chosen: Mapping[str, Any], listed: Prompts | None) -> dict[str, Any]:
    """What the samples take in turn, crossed with the seeds, and how many there are.

    Raises:
        UsageError: the seeds are given twice, or too many.
    """
    seeds, own = chosen["seeds"], listed.seeds if listed else None
    told = [key for key in ("seed", "seeds") if chosen[key] is not None]
    told += ["the seeds of the prompts"] if own else []
    if len(told) > 1:
        raise UsageError(f"{' and '.join(told)} say the same", fix="leave one of them out")
    classes = tuple(chosen["classes"] or ()) or None
    subjects = len(listed.texts if listed else classes or (None,))
    times = len(seeds or (None,))
    if seeds and subjects * times > MOST_CROSSED:
        raise UsageError(
            f"{times} seeds of {subjects} prompts or classes are too many",
            fix=f"take {MOST_CROSSED} in all, or fewer",
        )
    count = chosen["num_samples"] or (subjects * times if own or seeds else NUM_SAMPLES)
    taken = listed.taken(-(-count // times)) if listed else None

    def crossed(column: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return column and tuple(each for each in column for _ in range(times))

    return {
        "num_samples": count,
        "seed": chosen["seed"] or 0,
        "seeds": seeds * subjects if seeds else taken.seeds if taken else None,
        "classes": crossed(classes),
        "prompts": crossed(taken.texts) if taken else None,
        "names": crossed(taken.names) if taken else None,
    }


def _check(card: Card, chosen: Mapping[str, Any]) -> None:
    """Raise a UsageError where a setting has no meaning on a model."""
    if chosen["quantize"] and not card.pipeline:
        problem = f"quantize {chosen['quantize']} is for a pipeline, and {card.name} is none"
        raise UsageError(problem, fix="leave it out, or take another precision")
    if chosen["precision"] not in card.precisions:
        raise UsageError(
            f"{card.name} gives black images in {chosen['precision']}",
            fix=f"use {' or '.join(card.precisions)}",
        )
    if chosen["decode_precision"] != DEFAULTS["decode_precision"] and "vae" not in card.components:
        problem = f"needs an autoencoder and {card.name} has none"
        if card.pipeline:
            problem = f"is not for {card.name}, all of whose parts have one precision"
        raise UsageError(
            f"decode_precision {chosen['decode_precision']} {problem}",
            fix="leave decode_precision out",
        )
    text = dict.fromkeys(("prompts", "negative_prompt"), card.text)
    takes = {"classes": card.num_classes is not None, **text}
    takes["guidance"] = any(takes.values())
    for key, meaning in takes.items():
        if chosen[key] is not None and not meaning:
            kind = "takes text" if card.text else "takes no text" if key in text else ""
            raise UsageError(
                f"{key} {chosen[key]} needs {'text' if key in text else 'classes'} and "
                f"{card.name} {kind or 'is unconditional'}",
                fix=f"leave {key} out",
            )
    guided = chosen["guidance"] is not None or card.pipeline  # which was asked itself
    if chosen["negative_prompt"] is not None and not guided:
        raise UsageError(
            "a negative prompt changes nothing without guidance",
            fix="leave negative_prompt out, or give guidance more than 1",
        )
    for label in chosen["classes"] or ():
        if not 0 <= label < (card.num_classes or 0):
            raise UsageError(
                f"class {label} is out of range of {card.name}",
                fix=f"its classes are 0 to {(card.num_classes or 0) - 1}",
            )
