"""`--target-speedup` and `--target-macs`: settings of a given cost, in place of given settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli._output import say

if TYPE_CHECKING:
    from skipdit_cli.generate.options import Options
    from skipdit_cli.plan.target import Search, Trial
    from skipdit_cli.run import Run
    from skipdit_cli.sites import Site

Speedup = Annotated[
    str | None,
    typer.Option(
        "--target-speedup",
        help="Find the settings of every method, or of --method, whose ideal speedup is nearest "
        "to this, as 1.5. --n and --window hold these settings to their values. `profile` and "
        "`cache-sweep` run a batch a few times for a method that decides while it runs.",
    ),
]
Macs = Annotated[
    str | None,
    typer.Option("--target-macs", help="The same for a share of the uncached MACs, as 60%."),
]


def search(
    model: str,
    given: dict[str, Any],
    *,
    speedup: str | None,
    macs: str | None,
    method: str | None,
    n: str | None,
    window: str | None,
    trial: "Trial",
    weights_path: Path | None = None,
) -> "Search | None":
    """What comes nearest to the target on a model; None where none is given.

    Args:
        given: what `options.settings` gives.
        speedup, macs, method, n, window: as on the command line.
        trial: as in `target.search`.
    """
    from skipdit_cli.plan import target as targets
    from skipdit_cli.spec import parse_range, parse_window

    target = targets.parse(speedup=speedup, macs=macs)
    if target is None:
        return None
    only: dict[str, Any] = {}
    if n is not None:
        only["n"] = parse_range(n, place="--n")
    if window is not None:
        only["window"] = [parse_window(each, place="--window") for each in window.split(",")]
    methods = None if method is None else [each.strip() for each in method.split(",")]
    (run,) = options.runs(model, ["none"], given, weights_path=weights_path)
    return targets.search(run, target, methods=methods, only=only, trial=trial)


def asked(
    model: str, given: dict[str, Any], how: "Options", *, otherwise: str | None = None, **words: Any
) -> list[str]:
    """The caches of a command that runs: those nearest to its target, or what it says itself.

    Args:
        otherwise: the intervals where nothing is said.
        words: speedup, macs, method, n and window, as in `search`.
    """
    from skipdit_cli.recipe.specs import specs

    found = search(model, given, trial=trials(how), weights_path=how.weights_path, **words)
    if found:
        return nearest(found)
    return specs(words["method"], n=words["n"], window=words["window"], otherwise=otherwise)


def trials(how: "Options") -> "Trial":
    """What a method that decides while it runs reuses: as it is known, or found by running it."""

    def trial(run: "Run") -> "list[frozenset[Site]]":
        from skipdit_cli.analyze.trial import tried

        return tried(run, how)

    return trial


def nearest(found: "Search") -> list[str]:
    """The nearest settings of every method, as specs; what they and others come to is told."""
    shown = found.target.shown
    for first, *others in found.found.values():
        more = ", ".join(f"{each.spec.brief} {shown(each.reached)}" for each in others)
        say(
            f"target: {first.spec.brief} comes to {shown(first.reached)}"
            f"{f'; in other windows: {more}' if more else ''}"
        )
    for line in told(found):
        say(f"target: {line}")
    return [settings[0].spec.brief for settings in found.found.values()]


def told(found: "Search") -> list[str]:
    """By what settings methods were searched, which come near to the target, and which cannot."""
    from skipdit_cli.plan.target import NEAR

    counted: list[str] = []
    tried: list[str] = []
    for name, varied in found.searched.items():
        dynamic = found.found[name][0].cache.method.DYNAMIC
        (tried if dynamic else counted).append(f"{name} by {', '.join(varied)}")
    far = [
        f"{name} ({settings[0].off * 100:.0f} % off)"
        for name, settings in found.found.items()
        if settings[0].off > NEAR
    ]
    said = {
        f"nearest to {found.target} by counting": counted,
        f"nearest to {found.target} by running a batch": tried,
        f"not within {NEAR * 100:.0f} %": far,
        "left out": found.left_out.values(),
    }
    return [f"{head}: {text}" for head, parts in said.items() if (text := "; ".join(parts))]


def content(found: "Search") -> dict[str, Any]:
    """The same for programs."""
    return {
        "value": found.target.value,
        "of": "macs" if found.target.macs else "speedup",
        "found": [
            {"method": name, "spec": each.spec.brief, "reached": each.reached, "off": each.off}
            for name, settings in found.found.items()
            for each in settings
        ],
        "searched": found.searched,
        "left_out": found.left_out,
    }
