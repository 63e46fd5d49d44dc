"""How people write things: `2..6`, `700-50`, `skip-cache(n=2,window=700-50)`, lists as `1/2/3`.

The keys inside the parentheses of a cache are the fields of the method's `Config`, the same in YAML
and on the command line.
"""

import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError, UsageError, unknown
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL, Layout, Site

if TYPE_CHECKING:
    from skipdit_cli.caches import Method

Window = tuple[int, int]
MOST = 10_000  # values that a range may have
NONE = "none"  # the method of an uncached run


@dataclass(frozen=True)
class CacheSpec:
    """A caching method with the settings that a person wrote; `str` writes it as they could."""

    method: "Method"
    config: Any

    @property
    def name(self) -> str:
        """Of the method."""
        return self.method.name

    def __str__(self) -> str:
        return _written(self.method.name, self.config)

    def resolve(self, layout: Layout) -> "Cache":
        """The cache on a model, with the defaults of its family filled in.

        Raises:
            UsageError: the method has no meaning on this model.
            SkipditError: the method's `resolve` gives no settings.
        """
        settings = self.method.resolve(self.config, layout)
        if not is_dataclass(settings):
            raise _faulty(
                self.method, "resolve", f"gives {settings!r}, not a dataclass of settings"
            )
        return Cache(self.method, settings, layout)


@dataclass(frozen=True)
class Cache:
    """A caching method on a model, with all its settings; `str` is the canonical spec.

    Attributes:
        method: what `registry.load` gives.
        settings: what the method's `resolve` gave.
        layout: of the model.
    """

    method: "Method"
    settings: Any
    layout: Layout

    def __str__(self) -> str:
        return _written(self.method.name, self.settings)

    @property
    def name(self) -> str:
        """Of the method."""
        return self.method.name

    @property
    def short(self) -> str:
        """The spec without what a calibration found, which is too long to be read."""
        return _written(self.name, self.settings, without=self.method.CALIBRATED)

    @property
    def window(self) -> Window | None:
        """(start, stop) in training timesteps; None for a method without, or one of all steps."""
        return self.setting("window")

    def setting(self, name: str) -> Any:
        """A setting by its name; None where the method has none of that name."""
        return dict(_items(self.settings)).get(name)

    @property
    def uncached(self) -> "Cache":
        """No cache, on the same model."""
        return no_cache().resolve(self.layout)

    def reused(self, timesteps: Sequence[int], *, guided: bool) -> list[frozenset[Site]]:
        """Which sites are reused, not computed, at every step of a list of timesteps.

        Raises:
            SkipditError: the method's answer does not fit the steps or the model.
        """
        steps = self.method.reused(self.settings, self.layout, timesteps, guided=guided)
        if len(steps) != len(timesteps):
            raise _faulty(self.method, "reused", f"gives {len(steps)} of {len(timesteps)} steps")
        self._check("reused", frozenset().union(*steps))
        return steps

    def halves(self, timesteps: Sequence[int], *, guided: bool) -> list[str]:
        """What of guidance is computed at every step; the CONDITIONAL half alone without guidance.

        Raises:
            SkipditError: the method's answer does not fit the steps.
        """
        if not guided:
            return [CONDITIONAL] * len(timesteps)
        steps = self.method.halves(self.settings, timesteps)
        if len(steps) != len(timesteps) or not set(steps) <= {BOTH, CONDITIONAL, NULL}:
            raise _faulty(self.method, "halves", f"does not say one of three for {len(timesteps)}")
        return steps

    @property
    def skipped(self) -> frozenset[Site]:
        """What a dynamic method does not compute on a step that reuses."""
        sites = self.method.skipped(self.settings, self.layout)
        self._check("skipped", sites)
        return sites

    @property
    def hooked(self) -> list[Site]:
        """The sites that the method has to see.

        Raises:
            SkipditError: the model has no such site.
        """
        sites = list(self.method.hooked(self.settings, self.layout))
        self._check("hooked", sites)
        return sites

    def _check(self, function: str, sites: Iterable[Site]) -> None:
        kinds = {"layer", *self.layout.kinds}
        for site in sites:
            if not isinstance(site, Site) or site.kind not in kinds:
                raise _faulty(
                    self.method, function, f"names {site}; the kinds are {', '.join(sorted(kinds))}"
                )
            if not 0 <= site.layer < self.layout.layers:
                raise _faulty(self.method, function, f"names {site} of {self.layout.layers} layers")


def _faulty(method: "Method", function: str, what: str) -> SkipditError:
    """The error of a method's file that does not do what its contract says."""
    return SkipditError(
        f"`{function}` {what}", place=f"cache {method.name}", fix="mend the method's file"
    )


def _items(settings: Any) -> list[tuple[str, Any]]:
    return [(each.name, vars(settings)[each.name]) for each in fields(settings)]


def _written(name: str, settings: Any, *, without: Sequence[str] = ()) -> str:
    parts = [
        f"{key}={value_text(value, window=key == 'window')}"
        for key, value in _items(settings)
        if value is not None and key not in without
    ]
    return f"{name}({','.join(parts)})" if parts else name


def no_cache() -> CacheSpec:
    """The spec of an uncached run."""
    method = registry.load("caches", NONE)
    return CacheSpec(method, method.Config())


def parse_cache(text: str, *, place: str = "") -> CacheSpec:
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
    method = registry.load("caches", name, place=place)
    hints = typing.get_type_hints(method.Config)
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
        return CacheSpec(method, method.Config(**values))
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
