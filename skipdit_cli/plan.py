"""Plan: what a recipe or a command will generate, and what that costs, before anything runs.

A Run is one generation in full; its key is the hash of everything that changes a pixel. A Row is
what a Run will do, counted on the meta device: no weights, no GPU, seconds for a whole table.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.errors import IncompleteError, MissingAssetError, UsageError, unknown
from skipdit_cli.recipe import Recipe, RecipeRow
from skipdit_cli.settings import SETTINGS, setting
from skipdit_cli.spec import parse_cache

if TYPE_CHECKING:
    from skipdit_cli.profiling.macs import Costs
    from skipdit_cli.weights import Card

DEFAULTS: dict[str, Any] = {
    "num_samples": 16,
    "batch_size": None,
    "seed": 0,
    "classes": None,
}
BATCH = 16  # samples computed together, or as many as are wanted where that is less
DTYPES = ("float32", "bfloat16", "float16")
VAE_SCALE = 8  # pixels per latent, along each side


@dataclass(frozen=True)
class Run:
    """One generation: everything that changes a pixel, and how many samples.

    Attributes:
        model: name of a checkpoint.
        cache: canonical spec with the model's defaults filled in, "none" without cache.
        sampler, steps: as in the samplers ("ddim", "50").
        guidance: scale of classifier-free guidance, None for none.
        classes: taken in turn by the samples; None draws one for each.
        prompts: taken in turn by the samples; None for a model that takes no text, and where the
            list has not been fetched.
        batch_size: samples computed together; guidance doubles what the model sees.
        weights: fingerprint of the weights, text encoders and autoencoder included.
    """

    model: str
    cache: str
    sampler: str
    steps: str
    guidance: float | None
    seed: int
    classes: tuple[int, ...] | None
    num_samples: int
    batch_size: int
    dtype: str = "float32"
    weights: str = ""
    prompts: tuple[str, ...] | None = None

    @cached_property
    def key(self) -> str:
        """16 hex digits; runs that differ in nothing but num_samples share their samples."""
        content = {name: value for name, value in self.to_dict().items() if name != "num_samples"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def reference(self) -> "Run":
        """The same run without cache, which pair metrics compare with."""
        return replace(self, cache="none")

    def to_dict(self) -> dict[str, Any]:
        """Content that JSON can hold; `from_dict` reads it back."""
        content = asdict(self) | {"classes": list(self.classes) if self.classes else None}
        if self.prompts is None:
            del content["prompts"]
        else:
            content["prompts"] = list(self.prompts)
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Run":
        """The inverse of to_dict.

        Raises:
            ValueError: the keys are not those of a run.
        """
        content = {"prompts": None, **content}
        names = {field.name for field in fields(cls)}
        if differ := sorted(names.symmetric_difference(content)):
            raise ValueError(f"unknown or missing: {', '.join(differ)}")
        lists = {key: tuple(content[key] or ()) or None for key in ("classes", "prompts")}
        return cls(**{**content, **lists})


@dataclass(frozen=True)
class Row:
    """What a Run will do. What a dynamic method saves is None until it has run.

    Attributes:
        steps, full_steps, cached_steps: calls of the model; cached are those that reuse a site.
        batch: number of samples that the three counts below are for, guidance included.
        macs_paper: multiply-accumulates of the whole trajectory in the paper's counting.
        macs_executed: the same rules on what this implementation executes.
        flops: floating-point operations with attention, as executed.
        ideal_speedup: flops of the uncached model over flops.
        disk_bytes: size of all samples before lossless compression.
        missing: what has to be there or made first, one line each.
    """

    run: Run
    steps: int
    full_steps: int | None
    cached_steps: int | None
    batch: int
    macs_paper: int | None
    macs_executed: int | None
    flops: int | None
    ideal_speedup: float | None
    disk_bytes: int
    missing: list[str]


def make_run(
    model: str,
    cache: str = "none",
    settings: Mapping[str, Any] | None = None,
    *,
    weights_path: Path | None = None,
    place: str = "",
) -> Run:
    """A Run with everything resolved.

    Args:
        model: name of a checkpoint.
        cache: a spec; the defaults of the model's family, and its calibration, are filled in.
        settings: any of SETTINGS, `classes` (integers) and `dtype`; what is left out is the
            checkpoint's own default. `prompts` may also be the prompts themselves, as a tuple.
        weights_path: a checkpoint file instead of the known place.
        place: what errors name.
    Raises:
        UsageError: unknown name, a cache without meaning on this model, a class out of range,
            guidance of an unconditional model, or prompts of one that takes no text.
        MissingAssetError: the cache has to be calibrated on this model first.
    """
    from skipdit_cli import calibration, weights

    card = weights.card(model, place=place)
    fingerprint = weights.fingerprint(model, path=weights_path)
    sampling = {
        "sampler": card.sampling.sampler,
        "steps": card.sampling.steps,
        "guidance": card.sampling.guidance,
        "dtype": card.dtypes[0],
        "prompts": card.prompts or None,
    }
    chosen: dict[str, Any] = {**DEFAULTS, **sampling}
    for key, value in (settings or {}).items():
        if key not in chosen:
            raise unknown("setting", key, chosen, place=place)
        known = key in SETTINGS and not isinstance(value, tuple)
        chosen[key] = setting(key, value, place=place) if known else value
    try:
        parsed = parse_cache(cache, place=place)
        parsed = calibration.complete(parsed, model, fingerprint=fingerprint, place=place)
        parsed = parsed.resolve(_model(model).layout())
        _check(card, chosen)
    except UsageError as error:
        raise UsageError(error.problem, place=error.place or place, fix=error.fix) from None
    chosen["batch_size"] = chosen["batch_size"] or min(BATCH, chosen["num_samples"])
    chosen["classes"] = tuple(chosen["classes"] or ()) or None
    if isinstance(chosen["prompts"], str):
        from skipdit_cli import prompts

        try:
            chosen["prompts"] = prompts.load(chosen["prompts"], place=place)
        except MissingAssetError:  # what it costs can be told without
            chosen["prompts"] = None
    return Run(model=model, cache=str(parsed), weights=fingerprint, **chosen)


def runs(recipe: Recipe) -> list[tuple[RecipeRow, str, Run]]:
    """(row, group, run) of every row that is not planned, in the order of the table."""
    found = []
    for row in recipe.rows:
        for group, model in row.models.items() if row.planned is None else ():
            settings, place = _settings(recipe, row), f"{recipe.name} row {row.id}"
            found.append((row, group, make_run(model, row.cache, settings, place=place)))
    return found


def scored(recipe: Recipe) -> list[tuple[Run, list[str]]]:
    """The runs of a recipe, each with the metrics that the columns of its group name."""
    return [
        (run, [column.metric for column in recipe.scored if column.group in ("", group)])
        for _, group, run in runs(recipe)
    ]


def profile_run(recipe: Recipe, row: RecipeRow) -> Run:
    """The run that the cost columns (MACs, latency, speedup) of a row are about: one batch.

    Args:
        row: one that is not planned.
    """
    settings = _settings(recipe, row) | recipe.settings.get("profile", {})
    group = settings.pop("group", None) or next(iter(row.models))
    settings["num_samples"] = settings.setdefault("batch_size", BATCH)
    return make_run(row.models[group], row.cache, settings, place=f"{recipe.name} row {row.id}")


def profile(recipe: Recipe, row: RecipeRow, *, root: Path | None = None) -> "Row":
    """What the cost columns of a row count; the row is not planned."""
    run = profile_run(recipe, row)
    seen = observed(run, root) if root else None
    return plan(run, batch=run.batch_size, text_tokens=row.text_tokens, seen=seen)


def plan(
    run: Run,
    *,
    batch: int = 1,
    root: Path | None = None,
    text_tokens: int | None = None,
    seen: Sequence[frozenset] | None = None,
) -> Row:
    """Count what a run does and find what it lacks.

    Args:
        batch: number of samples that MACs and FLOPs are given for.
        root: the results folder, to find the samples that are there already; each is verified.
        text_tokens: of a prompt; by default as many as the model's inputs for counting have.
        seen: what a dynamic method did reuse, per step (see `observed`).
    """
    from skipdit_cli.samplers._schedule import timesteps

    row = Row(
        run=run,
        steps=len(timesteps(run.steps)),
        full_steps=None,
        cached_steps=None,
        batch=batch,
        macs_paper=None,
        macs_executed=None,
        flops=None,
        ideal_speedup=None,
        disk_bytes=_sample_bytes(run.model) * run.num_samples,
        missing=_missing(run, root),
    )
    seen = observed(run, root) if root and seen is None else seen
    if seen is None and parse_cache(run.cache).dynamic:
        return row
    steps, whole = _steps(run, seen), _halves(run)
    costs = _costs(run.model, text_tokens)
    cost = costs.trajectory(Counter(steps)) * batch
    uncached = costs.trajectory({(frozenset(), whole): len(steps)}) * batch
    cached_steps = sum(bool(sites) or halves < whole for sites, halves in steps)
    return replace(
        row,
        full_steps=len(steps) - cached_steps,
        cached_steps=cached_steps,
        macs_paper=cost.macs_paper,
        macs_executed=cost.macs_executed,
        flops=cost.flops,
        ideal_speedup=uncached.flops / cost.flops,
    )


def shares(run: Run, *, root: Path | None = None) -> list[tuple[int, float]] | None:
    """(timestep, share of an uncached step's operations that are executed) of every step.

    Args:
        root: the results folder, to find what a dynamic method did reuse.
    Returns:
        None for a dynamic method that has not run.
    """
    from skipdit_cli.samplers._schedule import timesteps

    seen = observed(run, root) if root else None
    if parse_cache(run.cache).dynamic and seen is None:
        return None
    costs = _costs(run.model, None)
    whole = costs.total.flops * _halves(run)
    done = [costs.step(sites).flops * halves / whole for sites, halves in _steps(run, seen)]
    return list(zip(timesteps(run.steps), done, strict=True))


def observed(run: Run, root: Path) -> list[frozenset] | None:
    """What a dynamic method reused at every step of the run's first batch.

    None where that was not generated yet, or the method is not dynamic.
    """
    from skipdit_cli.samplers._schedule import timesteps
    from skipdit_cli.store import open_store

    cache = parse_cache(run.cache)
    if not cache.dynamic:
        return None
    try:
        steps = open_store(root, run).meta(0)["reused_steps"]
    except IncompleteError:
        return None
    skipped = cache.module.skipped(cache.config, _model(run.model).layout())
    return [skipped if i in steps else frozenset() for i in range(len(timesteps(run.steps)))]


def _halves(run: Run) -> int:
    """How many times an uncached step computes every sample."""
    return 1 if run.guidance is None else 2


def _steps(run: Run, seen: Sequence[frozenset] | None) -> list[tuple[frozenset, int]]:
    """(sites that are reused, halves of guidance that are computed) at every step."""
    from skipdit_cli.samplers._schedule import timesteps

    cache, layout = parse_cache(run.cache), _model(run.model).layout()
    visited, guided = timesteps(run.steps), run.guidance is not None
    reused = seen or cache.reused(layout, visited, guided=guided)
    unguided = cache.unguided(layout, visited, guided=guided)
    predicted = cache.predicted(visited, guided=guided)
    alone = (any(kinds) for kinds in zip(unguided, predicted, strict=True))
    return [(sites, 1 if only else _halves(run)) for sites, only in zip(reused, alone, strict=True)]


def _settings(recipe: Recipe, row: RecipeRow) -> dict[str, Any]:
    """What the row's samples are made with, its own settings before the recipe's."""
    return {k: v for k, v in {**recipe.settings, **row.settings}.items() if k != "profile"}


def _check(card: "Card", chosen: Mapping[str, Any]) -> None:
    """Raise a UsageError where a setting has no meaning on a model."""
    if chosen["dtype"] not in DTYPES:
        raise unknown("dtype", str(chosen["dtype"]), DTYPES)
    if chosen["dtype"] not in card.dtypes:
        raise UsageError(
            f"{card.name} gives black images in {chosen['dtype']}",
            fix=f"take {' or '.join(card.dtypes)}",
        )
    takes = {"classes": card.num_classes is not None, "prompts": card.text}
    takes["guidance"] = any(takes.values())
    for key, meaning in takes.items():
        if chosen[key] is not None and not meaning:
            kind = "takes text" if card.text else "takes no text" if key == "prompts" else ""
            raise UsageError(
                f"{key} {chosen[key]} needs {'text' if key == 'prompts' else 'classes'} and "
                f"{card.name} {kind or 'is unconditional'}",
                fix=f"leave {key} out",
            )
    for label in chosen["classes"] or ():
        if not 0 <= label < (card.num_classes or 0):
            raise UsageError(
                f"class {label} is out of range of {card.name}",
                fix=f"its classes are 0 to {(card.num_classes or 0) - 1}",
            )


@cache
def _model(name: str) -> Any:
    """The network of a checkpoint on the meta device."""
    from skipdit_cli import weights

    return weights.build(weights.card(name), device="meta")


@cache
def _costs(name: str, text_tokens: int | None) -> "Costs":
    """What one call of a checkpoint's network costs for one sample, without guidance."""
    from skipdit_cli import registry, weights
    from skipdit_cli.profiling.macs import site_costs

    model = _model(name)
    official = registry.load("models", weights.card(name).family).official_calls(model)
    inputs = model.inputs(1, device="meta")
    if text_tokens:
        inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"][:, :text_tokens]
    return site_costs(model, inputs, official=official)


def _sample_bytes(name: str) -> int:
    """A sample's uint8 RGB pixels, before they are compressed."""
    from skipdit_cli import weights

    model = _model(name)
    latents = model.inputs(1, device="meta")["hidden_states"]
    scale = VAE_SCALE if "vae" in weights.card(name).components else 1
    return latents.numel() // latents.shape[model.CHANNEL_DIM] * scale**2 * 3


def _missing(run: Run, root: Path | None) -> list[str]:
    """What the run lacks: weights and components, prompts, and samples under a results folder."""
    from skipdit_cli import weights

    card, found = weights.card(run.model), []
    lacking = weights.absent_components(card)
    size = sum(card.components[key].size for key in lacking)
    if run.weights == "absent":
        lacking, size = ["weights", *lacking], size + card.size
    if lacking and card.embedded:
        found.append(f"{', '.join(lacking)}: they ship with skipdit and are gone; install it again")
    elif lacking:
        command = f"skipdit download {run.model} ({weights.size_text(size)})"
        found.append(f"{', '.join(lacking)}: {command}")
    if card.text and run.prompts is None:
        found.append(f"prompts: skipdit download {card.prompts}")
    if root is not None:
        from skipdit_cli.store import open_store

        if absent := open_store(root, run).missing(range(run.num_samples)):
            found.append(f"samples: {len(absent)} of {run.num_samples}")
    return found
