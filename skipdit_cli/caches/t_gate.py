"""T-GATE: reuse self-attention before a gate step and cross-attention after it.

Source: arXiv 2404.02747; HaozheLiu-ST/T-GATE (ab2a88f) `tgate/tgate_utils.py`. Steps are counted
from 0. Before the gate (planning the semantics) self-attention is computed up to the warm-up and
then every n-th step; at the step before the gate all is computed and kept; from the gate on
(fidelity) cross-attention is reused, and self-attention computed every `after`-th step.

The original drops guidance from the gate on: it runs the null half alone, on outputs that are the
mean of both halves. The Skip-DiT paper keeps guidance (`guidance=true`), reuses only inside a
window of timesteps, and for images all outputs of a layer at once (`whole=true`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skipdit_cli.caches._fixed import kept_output, within
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Call, Layout, Site


@dataclass(frozen=True)
class Config:
    """Settings, with the defaults of the original for 25 steps.

    Attributes:
        n: before the gate, compute self-attention every n-th step (5 in the original).
        gate: the step from which on cross-attention is reused (10 in the original).
        warmup: the last of the first steps that compute self-attention (2 in the original).
        after: from the gate on, compute self-attention every so many steps (1 in the original).
        guidance: keep classifier-free guidance after the gate, which the original drops.
        whole: before the gate, reuse cross-attention and MLPs together with self-attention.
        window: (start, stop) in training timesteps, both outside of it; None is all steps.
    """

    n: int = 5
    gate: int = 10
    warmup: int = 2
    after: int = 1
    guidance: bool = False
    whole: bool = False
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("gate", 1), ("warmup", 0), ("after", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name}={getattr(self, name)} is no number of steps", fix=f"{least} or more"
                )


def resolve(config: Config, layout: Layout) -> Config:
    if "attn.cross" not in layout.kinds:
        raise UsageError(
            f"t-gate needs attention to text and {layout.family} has none",
            fix="take fora or pab, or a text model",
        )
    return config


def reused(config: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    own = [kind for kind in layout.kinds if kind.startswith("attn") and kind != "attn.cross"]
    planning = _hooked_kinds(config, layout) if config.whole else own
    found = []
    for step, inside in enumerate(within(timesteps, config.window)):
        kinds: list[str] = []
        if inside and step < config.gate - 1 and step > config.warmup and step % config.n:
            kinds = planning
        elif inside and step >= config.gate:
            kinds = ["attn.cross", *(own if step % config.after else [])]
        found.append(
            frozenset(Site(kind, layer) for layer in range(layout.layers) for kind in kinds)
        )
    return found


def unguided(config: Config, layout: Layout, timesteps: Sequence[int]) -> list[bool]:
    return [not config.guidance and step >= config.gate for step in range(len(timesteps))]


def _hooked_kinds(config: Config, layout: Layout) -> list[str]:
    return [kind for kind in layout.kinds if config.whole or kind.startswith("attn")]


def hooked(config: Config, layout: Layout) -> list[Site]:
    kinds = _hooked_kinds(config, layout)
    return [Site(kind, layer) for layer in range(layout.layers) for kind in kinds]


def forward(config: Config, layout: Layout, call: Call, compute: Callable, hidden_states):
    kept, half = kept_output(call, compute, hidden_states), len(hidden_states)
    if not call.guided and len(kept) == 2 * half:  # kept while there was guidance
        kept = call.store[call.site] = (kept[:half] + kept[half:]) / 2  # stands for either half
    return kept
