"""What methods whose schedule is fixed share: a window in timesteps, and outputs kept for later."""

from collections.abc import Callable, Sequence
from typing import Any

from skipdit_cli.sites import Call


def within(timesteps: Sequence[int], window: tuple[int, int] | None) -> list[bool]:
    """Per step, whether stop < t < start, both strictly, as in VideoSys; no window holds all."""
    if window is None:
        return [True] * len(timesteps)
    start, stop = window
    return [stop < t < start for t in timesteps]


def kept_output(call: Call, compute: Callable[..., Any], hidden_states: Any) -> Any:
    """The output of the last step that computed the site, or of this one."""
    if not call.reuse:
        call.store[call.site] = compute(hidden_states)
    return call.store[call.site]
