"""Delta-DiT: reuse the change that a range of layers makes to the hidden state.

Source: arXiv 2406.01125 (no code by its authors). A full step keeps what comes out of the range
minus what goes in; a cached step adds that to the current hidden state in place of the range.

The original replaces the rear layers in the early steps, where the outline is drawn, and the front
layers in the late ones. The Skip-DiT paper replaces front layers in videos, and middle layers of
networks with skip branches, whose outer layers stay live. (The code that Skip-DiT's authors took
from the authors of PAB adds the change with the wrong sign; this does not.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches import WINDOWS
from skipdit_cli.caches._choices import INTERVALS, evenly
from skipdit_cli.caches._fixed import within
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.sites import Call, Layout, Site, whole_layers

PARTS = ("staged", "front", "middle", "rear")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the original's where it has any.

    Attributes:
        n: compute all layers every n-th step (2 in the original); 1 never reuses.
        part: which layers are replaced: `front`, `middle`, `rear`, or `staged`, rear ones until the
            boundary and front ones from there on; by default `staged`, and `middle` with skips.
        layers: how many layers are replaced; three quarters by default.
        boundary: the training timestep at which `staged` changes from rear to front; the original
            chooses it for each model.
        window: (start, stop) in training timesteps, both outside of it; None is all steps.
    """

    n: int = 2
    part: str | None = None
    layers: int | None = None
    boundary: int = 400
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if self.layers is not None and self.layers < 1:
            raise UsageError(f"layers={self.layers} replaces no layer", fix="layers is 1 or more")
        if self.part is not None and self.part not in PARTS:
            raise unknown("part", self.part, PARTS)


@dataclass(frozen=True)
class Settings:
    """Config on a model, with nothing left out but the window."""

    n: int
    part: str
    layers: int
    boundary: int
    window: tuple[int, int] | None


def resolve(config: Config, layout: Layout) -> Settings:
    part = config.part or ("middle" if layout.skips else "staged")
    most = layout.layers - 1 if part != "middle" else layout.layers - 2
    layers = config.layers or max(1, min(layout.layers * 3 // 4, most))
    if layers > most:
        raise UsageError(
            f"layers={layers} of {layout.layers} is out of range", fix=f"{part} takes 1 to {most}"
        )
    chosen = Settings(config.n, part, layers, config.boundary, config.window)
    for first, last in _ranges(chosen, layout).values():
        replaced = set(range(first, last + 1))
        for to, source in layout.skips:
            if source in replaced and to not in replaced:
                raise UsageError(
                    f"layer {to} is joined with layer {source}, which {part} would not run",
                    fix="take part=middle" if part != "middle" else "take fewer layers",
                )
    return chosen


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "layers": evenly(1, layout.layers - 1), "window": WINDOWS}


def _ranges(settings: Settings, layout: Layout) -> dict[str, tuple[int, int]]:
    """First and last layer of every range that is ever replaced."""
    k, total = settings.layers, layout.layers
    middle = (total - k + 1) // 2
    known = {
        "front": (0, k - 1),
        "middle": (middle, middle + k - 1),
        "rear": (total - k, total - 1),
    }
    names = ("rear", "front") if settings.part == "staged" else (settings.part,)
    return {name: known[name] for name in names}


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    replaced = {
        name: whole_layers(layout, range(first, last + 1))
        for name, (first, last) in _ranges(settings, layout).items()
    }
    per_step = []
    for step, (t, inside) in enumerate(
        zip(timesteps, within(timesteps, settings.window), strict=True)
    ):
        staged = "rear" if t > settings.boundary else "front"
        sites = replaced[staged if settings.part == "staged" else settings.part]
        per_step.append(sites if inside and step % settings.n else frozenset())
    return per_step


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    layers = {
        i for first, last in _ranges(settings, layout).values() for i in range(first, last + 1)
    }
    return [Site("layer", i) for i in sorted(layers)]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    ranges, here, store = _ranges(settings, layout), call.site.layer, call.store
    if call.reuse:
        for name, (first, last) in ranges.items():
            if here == first and "active" not in store:
                store["active"] = name
                hidden_states = hidden_states + store["change", name]
            if here == last and store.get("active") == name:
                del store["active"]
        return hidden_states
    for name, (first, _) in ranges.items():
        if here == first:
            store["input", name] = hidden_states
    hidden_states = compute(hidden_states)
    for name, (_, last) in ranges.items():
        if here == last and not call.cached:
            store["change", name] = hidden_states - store["input", name]
    return hidden_states
