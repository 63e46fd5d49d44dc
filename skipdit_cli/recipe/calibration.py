"""Calibrations: numbers that a caching method needs and that are measured on the model.

One JSON file for a model, a method, a sampler and its number of steps. Those of the embedded models
ship with the package; others live in $SKIPDIT_HOME/calibration, beside the weights they belong to.
A run's cache spec holds the numbers themselves, so its key changes with them.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from skipdit_cli import registry
from skipdit_cli.cache import CacheSpec
from skipdit_cli.checkpoints import catalog, local, pipeline
from skipdit_cli.checkpoints.card import RANDOM, Card, by_path
from skipdit_cli.checkpoints.card import file_name as model_name
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError, warn
from skipdit_cli.profiling import counts
from skipdit_cli.recipe import keywords
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from skipdit_cli.samplers import Sampler

CALIBRATION = kept.Kind("calibration", 3)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured, and on what.

    Attributes:
        model: name of the model.
        method: the caching method the values are for.
        weights: fingerprint of the model's weights.
        sampler: name of the sampler of the uncached samples.
        steps: its steps, as a respacing string.
        guidance: scale of their guidance; None without.
        num_samples: how many uncached samples there were.
        seed: their seed.
        pairs: how many observations there were, of two steps each.
        settings: of the method, by name: the coefficients of teacache, the ratios of mag-cache.
        variant: the other settings that they are for; none where they are for all.
        call: of a pipeline, the arguments of its call.
        tried: by name, how near the samples came to the uncached ones under each of several
            answers (minus 10 log10 of the mean square of what their latents differ by), of which
            the best was kept.
        provenance: what `provenance.collect` says.
    """

    model: str
    method: str
    weights: str
    sampler: str
    steps: str
    guidance: float | None
    num_samples: int
    seed: int
    pairs: int
    settings: dict[str, Any]
    variant: dict[str, Any] = field(default_factory=dict)
    tried: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)


def methods() -> list[str]:
    """The caching methods that have to be calibrated."""
    names = registry.names("caches")
    return [name for name in names if registry.load("caches", name).CALIBRATED]


def command(
    model: str,
    method: str,
    *,
    sampler: str = "",
    steps: str = "",
    variant: Mapping[str, Any] | None = None,
) -> str:
    """What makes a calibration; of the model's own sampler and steps where none are named."""
    piped = model in catalog.PIPELINES or (by_path(model) and pipeline.is_one(model))
    given = {
        "pipeline" if piped else "model": shlex.quote(model),
        "method": method,
        **(variant or {}),
        "sampler": "" if piped else sampler,  # a pipeline has its own
        "steps": steps,
    }
    words = (f"--{name} {value}" for name, value in given.items() if value != "")
    return " ".join(["skipdit analyze calibrate", *words])


def folder(model: str) -> Path:
    """Where the calibrations of a model are written: of a folder, beside its weights."""
    own = by_path(model) and Path(model).is_dir()
    return Path(model) if own else local.home() / "calibration" / model_name(model)


def file_name(
    method: str, *, sampler: str, steps: int | str, variant: Mapping[str, Any] | None = None
) -> str:
    """The name of a calibration's file: `teacache-ddim-50.json`, or with what it is for alone,
    `dp-cache-full=17,branch=1-ddim-50.json`.

    Args:
        method: name of the caching method.
        sampler: name of the sampler; "*" in a pattern.
        steps: number of steps; "*" in a pattern.
    """
    settings = ",".join(f"{name}={value}" for name, value in (variant or {}).items())
    return "-".join([method, *filter(None, [settings]), sampler, f"{steps}.json"])


def files(card: Card, pattern: str) -> list[Path]:
    """The calibrations of a model whose names fit: the user's own before those that ship."""
    places = [folder(card.name)]
    if card.embedded:
        places.append(shipped.embedded() / card.name)
    return [path for place in places for path in sorted(place.glob(pattern)) if path.is_file()]


def write_calibration(calibration: Calibration, where: Path) -> Path:
    """Write a calibration into a folder; returns the file."""
    path = where / file_name(
        calibration.method,
        sampler=calibration.sampler,
        steps=_count(calibration),
        variant=calibration.variant,
    )
    of = _identity(calibration.model, path)
    write_whole(path, kept.sealed_json(asdict(calibration), CALIBRATION, of=of))
    return path


def _count(calibration: Calibration) -> int:
    """The number of steps; of a pipeline, which has a scheduler of its own, they say it."""
    if calibration.sampler not in registry.names("samplers"):
        return int(calibration.steps)
    return len(registry.load("samplers", calibration.sampler).timesteps(calibration.steps))


def read_calibration(path: Path, model: str) -> Calibration:
    """Read what `write_calibration` wrote for a model.

    Raises:
        StoreError: the file is missing, cannot be read or is not a calibration.
    """
    fix = f"run `{_making(path, model)}`"
    kind = replace(CALIBRATION, fix=fix)
    calibration = kept.read_json(path, _parse, kind, of=_identity(model, path))
    if calibration is None:
        raise StoreError("there is no such file", place=str(path), fix=fix)
    return calibration


def _making(path: Path, model: str) -> str:
    """The command that makes a file of this name."""
    start, sampler, steps = [*path.stem.rsplit("-", 2), "", ""][:3]
    method, _, given = re.sub(r"-(\w+=)", r" \1", start, count=1).partition(" ")
    settings = dict(re.findall(r"(\w+)=([^,]*)", given))
    return command(model, method, sampler=sampler, steps=steps, variant=settings)


def _identity(model: str, path: Path) -> str:
    # of a path only its weights say whose it is: the folder may have been moved
    return path.stem if by_path(model) else f"{model}, {path.stem}"


def _parse(content: dict[str, Any]) -> Calibration:
    calibration = kept.shaped(Calibration, {"call": {}, **content})  # earlier ones have none
    chosen = registry.load("caches", calibration.method)
    if calibration.settings.keys() != set(chosen.CALIBRATED):
        raise ValueError(f"its settings are not those of {calibration.method}")
    hints, settings = get_type_hints(chosen.Config), {}
    for name, value in calibration.settings.items():
        settings[name] = tuple(value) if isinstance(value, list) else value
        if not value or not kept.fits(settings[name], hints[name]):
            raise ValueError(f"its {name} cannot be {str(value)[:40]!r}")
    return replace(calibration, settings=settings)


def complete(
    spec: CacheSpec,
    card: Card,
    *,
    fingerprint: str,
    sampler: "Sampler",
    steps: str,
    guidance: float | None,
    texts: str | Sequence[str] | None = None,
    place: str = "",
) -> CacheSpec:
    """The spec, with the calibrated settings that were left out filled in.

    Args:
        fingerprint: of the weights that will run; "absent" if they are not here. RANDOM ones take
            a calibration of others: the samples mean nothing either way. Where there is none, both
            take what the method says costs the same.
        sampler: the sampler of the run.
        steps: its steps, as a respacing string.
        guidance: of the run.
        texts: its prompts, or the name of their list.
    Raises:
        MissingAssetError: the model was not calibrated for this sampler and number of steps; the
            command is named.
        UsageError: the model was calibrated with other weights.
    """
    left_out = [name for name in spec.method.CALIBRATED if vars(spec.config)[name] is None]
    if not left_out:
        return spec
    count = len(sampler.timesteps(steps))
    layout = counts.layout(card)
    variant = spec.method.variant(spec.config, layout)
    own = (sampler.name, steps) == (card.sampling.sampler, card.sampling.steps)
    how = {} if own else {"sampler": sampler.name, "steps": steps}
    words = [command(card.name, spec.name, variant=variant, **how)]
    if guidance != card.sampling.guidance:
        words += ["--guidance", _scale(guidance)]
    fix = f"run `{' '.join([*words, *map(shlex.quote, keywords.beside(card, texts))])}`"
    wanted = file_name(spec.name, sampler=sampler.name, steps=count, variant=variant)
    fitting = files(card, wanted)
    if not fitting:
        unknown = fingerprint in ("absent", RANDOM)
        if unknown and (stand_in := spec.method.stand_in(spec.config, layout, count)):
            return CacheSpec(spec.method, replace(spec.config, **stand_in))
        others = files(card, f"{spec.name}-*.json")
        names = [path.stem.removeprefix(f"{spec.name}-") for path in others]
        problem = f"{spec.name} has not been calibrated on {card.name}"
        if names:
            this = wanted.removeprefix(f"{spec.name}-").removesuffix(".json")
            problem += f" for {this}, only for {', '.join(names)}"
        raise MissingAssetError(problem, place=place, fix=fix)
    calibration = read_calibration(fitting[0], card.name)
    if fingerprint not in ("absent", RANDOM, calibration.weights):
        raise UsageError(
            f"{spec.name} was calibrated on the weights {calibration.weights} of {card.name} and "
            f"these are {fingerprint}",
            place=place,
            fix=f"{fix} again, with the same --weights if any",
        )
    if card.pipeline and calibration.call != dict(card.arguments):
        warn(
            f"{spec.name} was calibrated with {_told(calibration.call)}, and this is with "
            f"{_told(card.arguments)}",
            place=card.name,
            fix=f"{fix} again",
        )
    if calibration.guidance != guidance:
        warn(
            f"{spec.name} was calibrated with guidance {_scale(calibration.guidance)}, and this "
            f"is with {_scale(guidance)}",
            place=card.name,
            fix=f"{fix} again",
        )
    settings = {name: calibration.settings[name] for name in left_out}
    return CacheSpec(spec.method, replace(spec.config, **settings))


def _scale(guidance: float | None) -> str:
    return "none" if guidance is None else f"{guidance:g}"


def _told(call: Mapping[str, Any]) -> str:
    """The arguments of a call for people."""
    given = ", ".join(f"{key}={value}" for key, value in call.items())
    return f"--call {given}" if given else "no --call"
