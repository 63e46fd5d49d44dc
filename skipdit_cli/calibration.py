"""Calibrations: numbers that a caching method needs and that are measured on the model.

One JSON file for a model and a method. Those of the embedded models ship with the package; others
live in $SKIPDIT_HOME/calibration, beside the weights they belong to. A run's cache spec holds the
numbers themselves, so its key changes with them.
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from skipdit_cli import registry, shipped, weights
from skipdit_cli._disk import read_json, write_whole
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError
from skipdit_cli.spec import Cache


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured, and on what.

    Attributes:
        model: name of the model.
        method: the caching method the values are for.
        weights: fingerprint of the model's weights.
        steps, sampler, guidance, num_samples, seed: of the uncached samples.
        pairs: how many observations the values were fitted on.
        values: the coefficients (teacache) or ratios (mag-cache).
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
    values: tuple[float, ...]
    provenance: dict[str, Any] = field(default_factory=dict)


def methods() -> list[str]:
    """The caching methods that have to be calibrated."""
    names = registry.names("caches")
    return [name for name in names if hasattr(registry.load("caches", name), "CALIBRATED")]


def command(model: str, method: str) -> str:
    """What makes a calibration."""
    return f"skipdit analyze calibrate --model {model} --method {method}"


def folder(model: str) -> Path:
    """Where the calibrations of a model are written."""
    return weights.home() / "calibration" / model


def locate(model: str, method: str) -> Path | None:
    """The file of a calibration: the user's own, or the one that ships with an embedded model."""
    places = [folder(model)]
    if weights.card(model).embedded:
        places.append(shipped.embedded() / model)
    found = (place / f"{method}.json" for place in places)
    return next((path for path in found if path.is_file()), None)


def save(found: Calibration, where: Path) -> Path:
    """Write METHOD.json into a folder; returns the file."""
    path = where / f"{found.method}.json"
    write_whole(path, (json.dumps(asdict(found), indent=1, allow_nan=False) + "\n").encode())
    return path


def load(path: Path) -> Calibration:
    """Read what `save` wrote.

    Raises:
        StoreError: the file cannot be read, or is none.
    """
    found = read_json(path, _parse, what="calibration", fix="calibrate again")
    if found is None:
        raise StoreError("there is no such file", place=str(path), fix="calibrate again")
    return found


def _parse(content: dict[str, Any]) -> Calibration:
    if set(content) != {each.name for each in fields(Calibration)}:
        raise ValueError("its keys are not those of a calibration")
    return Calibration(**content | {"values": tuple(map(float, content["values"]))})


def complete(cache: Cache, model: str, *, fingerprint: str, place: str = "") -> Cache:
    """The cache with the calibrated setting filled in, if it has one and it was left out.

    Args:
        fingerprint: of the weights that will run; "absent" if they are not here.
    Raises:
        MissingAssetError: the model was not calibrated; the command is named.
        UsageError: it was, with other weights.
    """
    name = getattr(cache.module, "CALIBRATED", None)
    if name is None or getattr(cache.config, name) is not None:
        return cache
    path = locate(model, cache.name)
    if path is None:
        raise MissingAssetError(
            f"{cache.name} has not been calibrated on {model}",
            place=place,
            fix=f"run `{command(model, cache.name)}`",
        )
    found = load(path)
    if fingerprint not in ("absent", found.weights):
        raise UsageError(
            f"{cache.name} was calibrated on the weights {found.weights} of {model} and these are "
            f"{fingerprint}",
            place=place,
            fix=f"run `{command(model, cache.name)}` again, with the same --weights if any",
        )
    return Cache(cache.name, replace(cache.config, **{name: found.values}))
