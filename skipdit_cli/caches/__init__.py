"""One file per caching method; `Method` is what a file holds.

A method's file holds all of the method: which sites it reuses at which step, what it keeps, what it
does to classifier-free guidance, and what it has to know of a model and how that is measured. It
names sites, never a model; it imports torch and diffusers only inside a function.
`generate/hooks.py` puts the method on a network.

The smallest useful file has `Config`, `resolve`, `reused`, `hooked` and `forward`, as `fora.py`.
"""

import dataclasses
import types
import typing
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from skipdit_cli.contract import Registered
from skipdit_cli.sites import BOTH, Call, Guided, Layout, Seen, Site

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


STARTS, STOPS = (1000, 900, 800, 700, 600, 500), (0, 50, 100, 150, 200, 300, 400)
WINDOWS = tuple((start, stop) for start in STARTS for stop in STOPS)  # that a search tries


def added(default: Any) -> Any:
    """The default of a setting that a method's Config and settings got later.

    A spec does not tell it where it has this value, so that runs from before keep their keys.
    """
    return dataclasses.field(default=default, metadata={"added": True})


class Method(Registered, Protocol):
    """The contract of a caching method.

    Attributes:
        Config: a frozen dataclass of what a person writes, one sentence per field in its docstring;
            a field that may be left out and has no value of its own is None. Fields are int, float,
            bool, str, a window (start, stop) named `window`, or a tuple of these.
        VERSION: raised whenever a change gives other samples (CONTRIBUTING.md).
        AFTER_GATE: whether a gated site is reused with the gate of the step that computed it, not
            with that of the step at hand.
        BY_BATCH: whether what it does to a sample depends on the others of its batch.
        DYNAMIC: whether it decides while it runs; it then has `skipped` in place of `reused`.
        SEES_INPUT: whether its hooks look at what the network is given, `x` of their context.
        CALIBRATED: fields of Config that `skipdit analyze calibrate` fills where they are left out.
    """

    Config: type

    VERSION: int = 1
    AFTER_GATE: bool = False
    BY_BATCH: bool = False
    DYNAMIC: bool = False
    SEES_INPUT: bool = False
    CALIBRATED: tuple[str, ...] = ()

    @abstractmethod
    def resolve(self, config: Any, layout: Layout) -> Any:
        """The settings on a model: a frozen dataclass with Config's fields, none of them left out.

        What does not apply to the model may be None. Where nothing is left out the Config itself
        serves. Written as a spec and resolved again, the settings stay the same.

        Raises:
            UsageError: the method has no meaning on the model.
        """

    @abstractmethod
    def hooked(self, settings: Any, layout: Layout) -> Sequence[Site]:
        """The sites that the method has to see."""

    def reused(
        self, settings: Any, layout: Layout, timesteps: Sequence[int], *, guided: bool
    ) -> list[frozenset[Site]]:
        """Per step, the sites that are not computed: a function of the timesteps alone.

        Args:
            timesteps: of all steps, in training timesteps 999 to 0, highest first.
            guided: whether classifier-free guidance is on.
        """
        return [frozenset()] * len(timesteps)

    def skipped(self, settings: Any, layout: Layout) -> frozenset[Site]:
        """Of a dynamic method: the sites that are not computed on a step that reuses."""
        return frozenset()

    def forward(
        self,
        settings: Any,
        layout: Layout,
        call: Call,
        compute: Callable[..., Any],
        hidden_states: Any,
    ) -> Any:
        """What a hooked site gives; `compute(hidden_states)` runs it, `call` says where we are.

        Args:
            hidden_states: what enters the site, of both halves of guidance or of one (`call`).
        Returns:
            What leaves it, of the same batch.
        """
        return compute(hidden_states)

    def hooks(
        self, settings: Any, layout: Layout, timesteps: Sequence[int], *, guided: bool
    ) -> dict[Site, Any]:
        """In place of `forward`, of a method that diffusers has: its hook for each hooked site."""
        return {}

    def halves(self, settings: Any, timesteps: Sequence[int]) -> list[str]:
        """Per step of a guided generation, what is computed: BOTH, CONDITIONAL or NULL."""
        return [BOTH] * len(timesteps)

    def guide(self, settings: Any, call: Guided) -> "Tensor":
        """The network's output of both halves, [conditional; null], before guidance combines them.

        It is called at every step of a guided generation; `call.compute(halves)` runs the network.

        Returns:
            [2B, ...] in the model's layout.
        """
        return call.compute(BOTH)

    def choices(self, layout: Layout, steps: int) -> Mapping[str, Sequence[Any]]:
        """What a search for settings of a given cost tries: values of fields of Config, by name.

        They are crossed, together with the default of each; combinations that Config or `resolve`
        refuses are left out. By default 1 to 10 of every integer, and a few dozen windows. A
        dynamic method is not asked: trials find its `threshold`, a float of which more saves more.

        Args:
            steps: how many there are.
        """
        return usual_choices(self.Config)

    def note(self, settings: Any) -> str:
        """One sentence for under a table: in what it differs from what its authors run."""
        return ""

    def caution(self, settings: Any, *, stochastic: bool) -> str:
        """Why the settings may be worse than they look, a sentence without its full stop, or "".

        It is told before samples are made and under their tables, and stops nothing.

        Args:
            stochastic: whether the sampler adds noise at its steps.
        """
        return ""

    def variant(self, config: Any, layout: Layout) -> Mapping[str, Any]:
        """Of a calibrated method: the settings that a calibration is for; by default it is for all.

        Args:
            config: a Config, of which what is calibrated may be left out.
        """
        return {}

    def variants(self, layout: Layout, steps: int) -> Sequence[Any]:
        """Of a calibrated method: what is calibrated where nothing is said, as Configs."""
        return [self.Config()]

    def stand_in(self, config: Any, layout: Layout, steps: int) -> Mapping[str, Any]:
        """Of a calibrated method: fields in CALIBRATED of the same cost, where none are measured.

        For a plan, and for weights that are random; by default there are none.
        """
        return {}

    def in_turn(self, settings: Any, steps: range, of: int) -> Any:
        """The settings for one of several networks that take turns: for its steps alone.

        A calibrated method without it does not fit where networks take turns; others are the same
        at all steps.

        Args:
            settings: for all steps. steps: those of the network. of: how many there are of all.
        """
        return settings

    def watched(self, layout: Layout, *, config: Any) -> Sequence[Site]:
        """Of a calibrated method: the sites that `observe` looks at."""
        return ()

    def observe(self, layout: Layout, now: Seen, before: Seen, *, config: Any) -> "Tensor":
        """Of a calibrated method: what it is fitted on, from two steps of an uncached generation.

        Where networks take turns, the first step of another one is both of them.

        Returns:
            [samples, ...].
        """
        raise NotImplementedError

    def probes(self, layout: Layout, steps: int, *, config: Any) -> Sequence[Mapping[str, Any]]:
        """Of a calibrated method: settings under which the same samples are generated as well.

        How far each sample then strays from the uncached one is what `candidates` is told.
        """
        return ()

    def fit(self, observed: "np.ndarray") -> Mapping[str, Any]:
        """Of a calibrated method: the fields in CALIBRATED.

        Args:
            observed: float64 [samples, steps - 1, ...], what `observe` gave.
        Raises:
            UsageError: there are too few observations.
        """
        raise NotImplementedError

    def candidates(
        self, observed: "np.ndarray", *, layout: Layout, config: Any, strayed: "np.ndarray"
    ) -> Mapping[str, Mapping[str, Any]]:
        """Of a calibrated method, in place of `fit`: several answers, by names for people.

        Those are kept under which samples stray least from the uncached ones.

        Args:
            observed: as of `fit`.
            strayed: [probes, samples], by how much the latents of each sample differ (mean square).
        """
        return {"": self.fit(observed)}

    @staticmethod
    def rules(module: ModuleType) -> str:
        """What parts have to be there together."""
        parts = vars(module)
        dynamic = parts.get("DYNAMIC", False)
        if dynamic and "skipped" not in parts:
            return "`skipped` is missing, which a dynamic method needs"
        if dynamic and "reused" in parts:
            return (
                "`reused` has no meaning in a dynamic method (DYNAMIC = True); remove one of them"
            )
        answers = "candidates" if "candidates" in parts else "fit"
        for part in ("watched", "observe", answers) if parts.get("CALIBRATED") else ():
            if part not in parts:
                return f"`{part}` is missing, which CALIBRATED needs"
        return ""


def usual_choices(config: type) -> dict[str, Sequence[Any]]:
    """Of a method that does not say what to try: 1 to 10 of every integer, WINDOWS of a window."""
    hints = typing.get_type_hints(config)
    known: dict[str, Sequence[Any]] = {}
    for field in fields(config):
        hint = hints[field.name]
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if int in kinds:
            known[field.name] = tuple(range(1, 11))
        elif field.name == "window":
            known[field.name] = WINDOWS
    return known
