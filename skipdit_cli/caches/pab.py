"""PAB, Pyramid Attention Broadcast: reuse attention outputs at a different interval for each kind.

Source: arXiv 2408.12588; NUS-HPC-AI-Lab/VideoSys (4cce477) `videosys/core/pab/pab_mgr.py`. Inside
the window an attention output is computed every n-th step, counted from the first. Chosen MLPs of
the first layers are computed at key timesteps and reused at the steps after each. What is kept is
the output after its gate, so that the gate is the old one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from skipdit_cli.caches import WINDOWS
from skipdit_cli.caches._choices import INTERVALS
from skipdit_cli.caches._fixed import kept_output, within
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site

AFTER_GATE = True


@dataclass(frozen=True)
class Config:
    """Settings, with the defaults that VideoSys has for Latte.

    Attributes:
        n: a name for the authors' ranges: 2 is 2/3/6, 3 is 3/4/7, 4 is 4/6/9; others go on alike;
            1 reuses no more than the settings below ask for, and no MLP.
        spatial: every how many steps spatial attention is computed; n by default.
        temporal: the same of temporal attention, where there is any.
        cross: the same of attention to text, where there is any.
        window: (start, stop) in training timesteps, both outside of it.
        mlp: whether outputs of MLPs are reused as well, unless n is 1.
        mlp_keys: timesteps at which these MLPs are computed; each means the first step not above.
        mlp_steps: how many steps after a key one reuse them.
        mlp_layers: how many layers, from the first, have such MLPs.
    """

    n: int = 2
    spatial: int | None = None
    temporal: int | None = None
    cross: int | None = None
    window: tuple[int, int] = (800, 100)
    mlp: bool = True
    mlp_keys: tuple[int, ...] = (720, 640, 560, 480, 400)
    mlp_steps: int = 2
    mlp_layers: int = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1:
                raise UsageError(f"{field.name}={value} is too small", fix="take 1 or more")


def resolve(config: Config, layout: Layout) -> Config:
    n = config.n
    usual = {"spatial": n, "temporal": n + n // 2, "cross": 6 if n == 2 else 2 * n + 1}
    intervals = {}
    for kind, interval in usual.items():
        given, there = _intervals(config)[kind], f"attn.{kind}" in layout.kinds
        if given is not None and not there:
            raise UsageError(
                f"{layout.family} has no {kind} attention", place=f"pab {kind}", fix="leave it out"
            )
        intervals[kind] = (given or (1 if n == 1 else interval)) if there else None
    return replace(
        config,
        spatial=intervals["spatial"],
        temporal=intervals["temporal"],
        cross=intervals["cross"],
        mlp=config.mlp and n > 1,
        mlp_layers=min(config.mlp_layers, layout.layers),
    )


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    layers = (max(1, layout.layers // 2), layout.layers)
    return {"n": INTERVALS, "window": WINDOWS, "mlp_layers": layers}


def reused(settings: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    intervals = _intervals(settings)
    mlps, mlp_steps = frozenset(_mlps(settings, layout)), _mlp_reused(settings, timesteps)
    attention = {
        kind: frozenset(Site(f"attn.{kind}", layer) for layer in range(layout.layers))
        for kind in intervals
    }
    per_step = []
    for step, inside in enumerate(within(timesteps, settings.window)):
        sites = [
            attention[kind]
            for kind, interval in intervals.items()
            if inside and interval and step % interval
        ]
        per_step.append(frozenset().union(*sites, mlps if step in mlp_steps else ()))
    return per_step


def _intervals(config: Config) -> dict[str, int | None]:
    """Every how many steps each kind of attention is computed, None where it was left out."""
    return {"spatial": config.spatial, "temporal": config.temporal, "cross": config.cross}


def _mlps(settings: Config, layout: Layout) -> set[Site]:
    kinds = [kind for kind in layout.kinds if kind.startswith("mlp") and settings.mlp]
    return {Site(kind, layer) for layer in range(settings.mlp_layers) for kind in kinds}


def _mlp_reused(settings: Config, timesteps: Sequence[int]) -> set[int]:
    """The steps that reuse MLPs: those after a key step that are no key step themselves."""
    keys = {
        next(step for step, t in enumerate(timesteps) if t <= key)
        for key in settings.mlp_keys
        if timesteps[-1] <= key
    }
    after = {key + i for key in keys for i in range(1, settings.mlp_steps + 1)}
    return {step for step in after - keys if step < len(timesteps)}


def hooked(settings: Config, layout: Layout) -> list[Site]:
    attention = [
        Site(kind, layer)
        for layer in range(layout.layers)
        for kind in layout.kinds
        if kind.startswith("attn")
    ]
    return [*attention, *sorted(_mlps(settings, layout))]


def forward(
    settings: Config, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    return kept_output(call, compute, hidden_states)
