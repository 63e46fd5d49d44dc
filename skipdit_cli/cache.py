"""A caching method with its settings: as a person writes it, and on a model."""

from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL, Layout, Site

if TYPE_CHECKING:
    from skipdit_cli.caches import Method


@dataclass(frozen=True)
class Percent:
    """A place in the trajectory, as a share of the steps that are left: 100 before the first."""

    value: int

    def __str__(self) -> str:
        return f"{self.value}%"


Window = tuple[int, int] | tuple[Percent, Percent]
NONE = "none"  # the method of an uncached run
ABOVE = 1001  # any timestep
WHOLE = "whole"  # the window of a method that has none: all steps


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

    @property
    def short(self) -> str:
        """The spec without what a calibration found, which is too long to be read."""
        return _written(self.name, self.config, without=self.method.CALIBRATED)

    @property
    def brief(self) -> str:
        """The spec without what is the method's default anyway."""
        usual = [each.name for each in fields(self.config) if _is_default(each, self.config)]
        return _written(self.name, self.config, without=usual)

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
        """(start, stop) in training timesteps, or in shares of the steps; None for a method
        without, or one of all steps."""
        return self.setting("window")

    @property
    def span(self) -> str:
        """The window as tables show it: `700-50`, WHOLE where there is none; "" of no cache."""
        if self.name == NONE:
            return ""
        return value_text(self.window, window=True) if self.window else WHOLE

    def setting(self, name: str) -> Any:
        """A setting by its name; None where the method has none of that name."""
        return dict(_items(self.settings)).get(name)

    @property
    def note(self) -> str:
        """What a table has to say of it, or nothing."""
        return self.method.note(self.settings)

    @property
    def uncached(self) -> "Cache":
        """No cache, on the same model."""
        return no_cache().resolve(self.layout)

    def at(self, timesteps: Sequence[int]) -> "Cache":
        """The cache with a window in timesteps, where it has one in shares of the steps.

        Of N steps the share that is left at step i is 1 - i / N.
        """
        window = self.window
        if window is None or not isinstance(window[0], Percent):
            return self
        steps = len(timesteps)
        start, stop = (each.value * steps for each in window)  # type: ignore[union-attr]
        left = [(t, 100 * (steps - step)) for step, t in enumerate(timesteps)]
        before = [t for t, share in left if share >= start]
        after = [t for t, share in left if share <= stop]
        inside = (min(before, default=ABOVE), max(after, default=-1))
        return replace(self, settings=replace(self.settings, window=inside))

    def in_turn(self, steps: range, of: int) -> "Cache":
        """The cache on one of several networks that take turns, at the steps of that one.

        Args:
            steps: those of the network. of: how many there are of all.
        """
        if len(steps) == of:
            return self
        return replace(self, settings=self.method.in_turn(self.settings, steps, of))

    def reused(self, timesteps: Sequence[int], *, guided: bool) -> list[frozenset[Site]]:
        """Which sites are reused, not computed, at every step of a list of timesteps.

        Raises:
            SkipditError: the method's answer does not fit the steps or the model.
        """
        settings = self.at(timesteps).settings
        steps = self.method.reused(settings, self.layout, timesteps, guided=guided)
        if len(steps) != len(timesteps):
            raise _faulty(self.method, "reused", f"gives {len(steps)} of {len(timesteps)} steps")
        different = {id(sites): sites for sites in steps}  # few, of many steps
        self._check("reused", frozenset().union(*different.values()))
        there = {key: sites - self.layout.absent for key, sites in different.items()}
        return [there[id(sites)] for sites in steps]

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
        return sites - self.layout.absent

    @property
    def hooked(self) -> list[Site]:
        """The sites that the method has to see.

        Raises:
            SkipditError: the model has no such site.
        """
        sites = list(self.method.hooked(self.settings, self.layout))
        self._check("hooked", sites)
        return [site for site in sites if site not in self.layout.absent]

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


def _is_default(each: Field, config: Any) -> bool:
    return bool(vars(config)[each.name] == each.default)


def _written(name: str, settings: Any, *, without: Sequence[str] = ()) -> str:
    parts = [
        f"{key}={value_text(value, window=key == 'window')}"
        for each, (key, value) in zip(fields(settings), _items(settings), strict=True)
        if value is not None and key not in without
        if not (each.metadata.get("added") and _is_default(each, settings))
    ]
    return f"{name}({','.join(parts)})" if parts else name


def no_cache() -> CacheSpec:
    """The spec of an uncached run."""
    method = registry.load("caches", NONE)
    return CacheSpec(method, method.Config())


def value_text(value: Any, *, window: bool = False) -> str:
    """A setting of a cache as it is written in a spec."""
    if isinstance(value, tuple):
        return ("-" if window else "/").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
