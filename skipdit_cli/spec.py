"""How people write things: `2..6`, `700-50`, `skip-cache(n=2,window=700-50)`, lists as `1/2/3`.

The keys inside the parentheses of a cache are the fields of the method's `Config`, the same in YAML
and on the command line.
"""

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from skipdit_cli import registry
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.sites import Layout, Site

Window = tuple[int, int]
MOST = 10_000  # values that a range may have


@dataclass(frozen=True)
class Cache:
    """A caching method with its settings; `str` is the canonical spec that parses back to it."""

    name: str
    config: Any

    def __str__(self) -> str:
        return self._spec()

    @property
    def short(self) -> str:
        """The spec without what a calibration found, which is too long to be read."""
        return self._spec(without=getattr(self.module, "CALIBRATED", ""))

    def _spec(self, *, without: str = "") -> str:
        parts = [
            f"{f.name}={value_text(value, window=f.name == 'window')}"
            for f in fields(self.config)
            if (value := getattr(self.config, f.name)) is not None and f.name != without
        ]
        return f"{self.name}({','.join(parts)})" if parts else self.name

    @property
    def dynamic(self) -> bool:
        """Whether what the method reuses is known only once it has run."""
        return not hasattr(self.module, "reused")

    @property
    def module(self) -> types.ModuleType:
        """The method's module in `caches/`."""
        return registry.load("caches", self.name)

    def resolve(self, layout: Layout) -> "Cache":
        """The same cache with the defaults of a model family filled in.

        Raises:
            UsageError: the method has no meaning on this model.
        """
        return Cache(self.name, self.module.resolve(self.config, layout))

    @property
    def after_gate(self) -> bool:
        """Whether the method keeps outputs after their gate, not before it."""
        return getattr(self.module, "AFTER_GATE", False)

    def unguided(self, layout: Layout, timesteps: Sequence[int], *, guided: bool) -> Sequence[bool]:
        """Per step, whether a guided generation computes the null half alone."""
        if not guided or not hasattr(self.module, "unguided"):
            return [False] * len(timesteps)
        return self.module.unguided(self.config, layout, timesteps)

    def predicted(self, timesteps: Sequence[int], *, guided: bool) -> Sequence[bool]:
        """Per step, whether the null half is predicted and the conditional one computed alone."""
        if not guided or not hasattr(self.module, "predicted"):
            return [False] * len(timesteps)
        return self.module.predicted(self.config, timesteps)

    def reused(
        self, layout: Layout, timesteps: Sequence[int], *, guided: bool = False
    ) -> list[frozenset[Site]]:
        """Which sites are reused, not computed, at every step of a list of timesteps.

        A method that predicts the null half of guidance reuses sites only where it does so.
        """
        found = self.module.reused(self.config, layout, timesteps)
        alone = self.predicted(timesteps, guided=guided)
        if not any(alone):
            return found
        return [sites if only else frozenset() for sites, only in zip(found, alone, strict=True)]

    def hooks(
        self, layout: Layout, timesteps: Sequence[int], *, guided: bool = False
    ) -> dict[Site, Any]:
        """The hooks of diffusers that the method consists of, by the site they act on."""
        if not hasattr(self.module, "hooks"):
            return {}
        if any(self.predicted(timesteps, guided=guided)):
            return self.module.hooks(self.config, layout, timesteps, alone=True)
        return self.module.hooks(self.config, layout, timesteps)

    def predictor(self, timesteps: Sequence[int], *, guided: bool) -> Any:
        """diffusers' hook that predicts the null half of guidance, or None."""
        if not any(self.predicted(timesteps, guided=guided)):
            return None
        return self.module.predictor(self.config, timesteps)


def parse_cache(text: str, *, place: str = "") -> Cache:
    """Parse `name` or `name(key=value,...)`.

    Raises:
        UsageError: unknown method or key (the nearest known one is named), or a value that does
            not fit, with `place` in front.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\(\s*(.*?)\s*\))?\s*", text)
    if not match:
        raise UsageError(
            f"cannot read cache '{text}'", place=place, fix="write name(key=value,...)"
        )
    name, inside = match[1], match[2] or ""
    config_class = registry.load("caches", name, place=place).Config
    hints = typing.get_type_hints(config_class)
    values: dict[str, Any] = {}
    for part in filter(None, (p.strip() for p in inside.split(","))):
        key, sign, value = (p.strip() for p in part.partition("="))
        if not sign:
            raise UsageError(f"'{part}' in '{text}' is not key=value", place=place)
        if key not in hints:
            raise unknown(f"setting of {name}", key, hints, place=place)
        if key in values:
            raise UsageError(f"{key} is given twice in '{text}'", place=place)
        values[key] = _value(value, hints[key], place=f"{place or text} {key}".strip())
    try:
        return Cache(name, config_class(**values))
    except UsageError as error:
        raise UsageError(
            f"{error.problem} in '{text}'", place=place or error.place, fix=error.fix
        ) from None


def parse_range(text: str, *, place: str = "") -> list[int]:
    """Parse `4`, `2..6` or `2,4,6` (or a mix) into a list of integers in the order written."""
    values: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:\.\.\s*(\d+)\s*)?", part)
        if not match:
            raise UsageError(
                f"cannot read range '{text}'", place=place, fix="write 4, 2..6 or 2,4,6"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(
                f"range '{part.strip()}' runs backwards",
                place=place,
                fix=f"write {last}..{first}",
            )
        if last - first >= MOST:
            raise UsageError(f"range '{part.strip()}' is too long", place=place)
        values += range(first, last + 1)
    return values


def parse_window(text: str, *, place: str = "") -> Window:
    """Parse `700-50`: start and stop in training timesteps, as in the paper (sampling runs down).

    Raises:
        UsageError: not two integers, or a start that is not above the stop.
    """
    match = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", text)
    if not match:
        raise UsageError(
            f"cannot read window '{text}'", place=place, fix="write start-stop, as in 700-50"
        )
    start, stop = int(match[1]), int(match[2])
    if start <= stop or start > 1000:
        raise UsageError(
            f"window '{text}' must run from a higher to a lower timestep, 1000 at most",
            place=place,
            fix=f"write {max(start, stop)}-{min(start, stop)}"
            if start < stop <= 1000
            else "timesteps are counted down from 1000 to 0, as in 700-50",
        )
    return start, stop


def _value(text: str, hint: Any, *, place: str) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[1] is Ellipsis:
        (kind, _) = typing.get_args(kind)
        return tuple(_value(part.strip(), kind, place=place) for part in text.split("/"))
    if typing.get_origin(kind) is tuple:
        return parse_window(text, place=place)
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UsageError(f"'{text}' is not true or false", place=place)
    try:
        return kind(text)
    except ValueError:
        what = {int: "an integer", float: "a number"}[kind]
        raise UsageError(f"'{text}' is not {what}", place=place) from None


def value_text(value: Any, *, window: bool = False) -> str:
    """A setting of a cache as it is written in a spec."""
    if isinstance(value, tuple):
        return ("-" if window else "/").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
