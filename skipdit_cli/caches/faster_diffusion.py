"""Faster Diffusion: run the encoder half at key steps only, the decoder half at every step.

Source: arXiv 2312.09608; hutaiHang/Faster-Diffusion (d64bfed) `utils_sd.py`, which is for U-Nets.
On a transformer the encoder is the first `split` layers: a key step keeps what they give, the
output that enters the decoder and, with skip branches, those that the decoder is joined with. At
the steps between, the decoder runs on these with the conditioning of the current timestep; it does
not see the current sample. The original also adds a little of the first noise to the sample below
timestep 500, which is a change of the sampler, not of the network, and is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skipdit_cli.caches._choices import INTERVALS, evenly
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site, whole_layers

STEPS = 50  # that the original's key steps are chosen for
KEYS = (0, 1, 2, 3, 5, 10, 15, 25, 35)
KEY_SETS = tuple(KEYS[:count] for count in range(4, len(KEYS)))  # fewer of them, for less cost


@dataclass(frozen=True)
class Config:
    """Settings, with the defaults of the original for 50 steps.

    Attributes:
        n: every n-th step is a key step (4 is recommended); by default those of `keys` are.
        keys: the key steps of 50; of another number of steps, those in the same places.
        split: how many layers belong to the encoder; half by default.
    """

    n: int | None = None
    keys: tuple[int, ...] = KEYS
    split: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise UsageError(f"n={self.n} is not an interval", fix="n is 1 or more")
        if 0 not in self.keys:
            raise UsageError("the first step has to be a key step", fix="begin keys with 0")
        if not all(0 <= key < STEPS for key in self.keys):
            strange = next(key for key in self.keys if not 0 <= key < STEPS)
            raise UsageError(
                f"keys: step {strange} is out of range", fix=f"take steps 0 to {STEPS - 1}"
            )
        if self.split is not None and self.split < 1:
            raise UsageError(f"split={self.split} leaves no encoder", fix="split is 1 or more")


@dataclass(frozen=True)
class Settings:
    """Config on a model; without an interval n the keys count."""

    n: int | None
    keys: tuple[int, ...]
    split: int


def resolve(config: Config, layout: Layout) -> Settings:
    split = config.split or layout.layers // 2
    if not 1 <= split < layout.layers:
        raise UsageError(
            f"split={split} of {layout.layers} layers is out of range",
            fix=f"split is 1 to {layout.layers - 1}",
        )
    return Settings(config.n, config.keys, split)


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "keys": KEY_SETS, "split": evenly(1, layout.layers - 1)}


def reused(settings: Settings, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    encoder = whole_layers(layout, range(settings.split))
    total = len(timesteps)
    keys = {key * total // STEPS for key in settings.keys}
    if settings.n is not None:
        keys = set(range(0, total, settings.n))
    return [frozenset() if step in keys else encoder for step in range(total)]


def hooked(settings: Settings, layout: Layout) -> list[Site]:
    return [Site("layer", layer) for layer in range(settings.split)]


def forward(
    settings: Settings, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    here, joined = call.site.layer, {source for _, source in layout.skips}
    if call.reuse:
        return call.store.get(here, hidden_states)
    hidden_states = compute(hidden_states)
    if here == settings.split - 1 or here in joined:
        call.store[here] = hidden_states
    return hidden_states
