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
from typing import Any

from skipdit_cli.caches import WINDOWS
from skipdit_cli.caches._choices import INTERVALS, evenly
from skipdit_cli.caches._fixed import kept_output, within
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import BOTH, NULL, Call, Guided, Layout, Site


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
        least = {"n": 1, "gate": 1, "warmup": 0, "after": 1}
        for name, value in vars(self).items():
            if name in least and value < least[name]:
                raise UsageError(f"{name}={value} is too small", fix=f"take {least[name]} or more")


def resolve(config: Config, layout: Layout) -> Config:
    if "attn.cross" not in layout.kinds:
        raise UsageError(
            f"t-gate needs attention to text and {layout.family} has none",
            fix="take fora or pab, or a text model",
        )
    return config


def choices(layout: Layout, steps: int) -> dict[str, Sequence[Any]]:
    return {"n": INTERVALS, "gate": evenly(2, steps), "window": WINDOWS}


def reused(settings: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    own = [kind for kind in layout.kinds if kind.startswith("attn") and kind != "attn.cross"]
    planning = _hooked_kinds(settings, layout) if settings.whole else own
    sites = {
        kind: frozenset(Site(kind, layer) for layer in range(layout.layers))
        for kind in layout.kinds
    }
    per_step = []
    for step, inside in enumerate(within(timesteps, settings.window)):
        kinds: list[str] = []
        if inside and step < settings.gate - 1 and step > settings.warmup and step % settings.n:
            kinds = planning
        elif inside and step >= settings.gate:
            kinds = ["attn.cross", *(own if step % settings.after else [])]
        per_step.append(frozenset().union(*(sites[kind] for kind in kinds)))
    return per_step


def halves(settings: Config, timesteps: Sequence[int]) -> list[str]:
    gate = len(timesteps) if settings.guidance else settings.gate
    return [NULL if step >= gate else BOTH for step in range(len(timesteps))]


def guide(settings: Config, call: Guided) -> Any:
    if halves(settings, call.timesteps)[call.step] == BOTH:
        return call.compute(BOTH)
    null = call.compute(NULL)  # in place of both: guidance then changes nothing
    return null.repeat(2, *[1] * (null.dim() - 1))


def _hooked_kinds(settings: Config, layout: Layout) -> list[str]:
    return [kind for kind in layout.kinds if settings.whole or kind.startswith("attn")]


def hooked(settings: Config, layout: Layout) -> list[Site]:
    kinds = _hooked_kinds(settings, layout)
    return [Site(kind, layer) for layer in range(layout.layers) for kind in kinds]


def forward(
    settings: Config, layout: Layout, call: Call, compute: Callable, hidden_states: Any
) -> Any:
    kept, half = kept_output(call, compute, hidden_states), len(hidden_states)
    if not call.guided and len(kept) == 2 * half:  # kept while there was guidance
        kept = call.store[call.site] = (kept[:half] + kept[half:]) / 2  # stands for either half
    return kept
