"""skipdit show"""

from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._estimate import size
from skipdit_cli.cli._output import show as tell
from skipdit_cli.cli._output import show_json, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipdit_cli.report.explained import Explained, Scored
    from skipdit_cli.storage.results import Result

SHOWN = 5  # prompts, names and seeds


@app.command()
def show(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="A run: its key, the beginning of one, or a cache spec.",
            autocompletion=complete.runs,
        ),
    ],
    model: options.Model = None,
    worst: Annotated[
        int, typer.Option(min=0, help="How many samples with the worst scores are listed.")
    ] = 0,
    results: options.Root = "results",  # type: ignore[assignment]
    json: options.Json = False,
) -> None:
    """Tell all that is known of a run: settings, scores, timings, code, sizes, command.

    A cache spec names the run of its method that has the settings in it.
    """
    from skipdit_cli.report.explained import explain
    from skipdit_cli.report.explained import worst as worst_of
    from skipdit_cli.storage import shelf

    runs = shelf.shelf(results)
    meant = [run for run in runs if options.is_of(model, run.model)]
    told = explain(shelf.one(key, meant, place=str(results)), runs)
    samples = worst_of(told.run, worst)
    if json:
        listed = {"worst": [vars(each) for each in samples]} if worst else {}
        show_json({**told.content, **listed})
        return
    tell("\n\n".join(filter(None, _parts(told, samples))))


def _parts(told: "Explained", worst: "Sequence[Scored]") -> list[str]:
    run = told.run
    return [
        f"run {run.key}" + (f": {run.model}, {run.cache}" if run.made else ""),
        _settings(told),
        _scores(told.scores),
        _worst(worst),
        _timings(told.timings),
        *(f"{what} failed: {reason}" for what, reason in told.failures.items()),
        "\n".join([*_samples(told), *_made(told)]),
    ]


def _settings(told: "Explained") -> str:
    rows = []
    made = told.run.made
    for name, value in made.items():
        if name == "seed" and made.get("seeds"):
            continue  # which take its place
        if name in ("prompts", "names", "seeds"):
            more = f" and {len(value) - SHOWN} more" * (len(value) > SHOWN)
            value = "; ".join(map(str, value[:SHOWN])) + more
        elif name == "versions":
            value = ", ".join(f"{part} {version}" for part, version in value.items())
        elif name == "classes" and value:
            value = ", ".join(map(str, value))
        elif value is None or isinstance(value, bool):
            value = str(value).lower()
        rows.append((name, str(value)))
    return table(("setting", "value"), rows) if rows else ""


def _scores(scores: "list[Result]") -> str:
    from skipdit_cli.report.cells import within
    from skipdit_cli.report.explained import outdated

    rows = [
        (
            *(each.metric, _number(each.value, each.unit) or each.status),
            *(within(each.interval, ".5g"), str(each.n), each.protocol, (each.reference or "")[:8]),
            "; ".join(filter(None, (each.note, outdated(each)))),
        )
        for each in scores
    ]
    headings = ("metric", "value", "95 % interval", "n", "protocol", "compared with", "note")
    return table(headings, rows) if rows else ""


def _worst(worst: "Sequence[Scored]") -> str:
    rows = [
        (each.metric, _number(each.score, each.unit), str(each.sample), each.about, each.file)
        for each in worst
    ]
    return table(("worst by", "score", "sample", "shows", "file"), rows) if rows else ""


def _timings(timings: "list[Result]") -> str:
    from skipdit_cli.report.cells import within

    rows = [
        (
            *(each.metric, _number(each.value, each.unit) or each.status),
            *(within(each.interval, ".5g"), str(each.n), each.inputs, each.note),
        )
        for each in timings
    ]
    headings = ("timing", "median", "95 % interval", "repetitions", "on", "note")
    return table(headings, rows) if rows else ""


def _samples(told: "Explained") -> list[str]:
    run, sizes = told.run, told.run.sizes
    parts = ", ".join(f"{name} {size(count)}" for name, count in sizes.items() if count)
    wanted = "" if run.wanted is None else f" of {run.wanted}"
    lines = [
        f"samples: {len(run.there)}{wanted} in {run.store.path}",
        f"disk: {size(sum(sizes.values()))} ({parts})",
    ]
    if told.reference:
        lines.append(f"reference: {told.reference.key}")
    if told.compared:
        with_it = ", ".join(f"{each.short} ({each.cache})" for each in told.compared)
        lines.append(f"compared with it: {with_it}")
    return lines


def _made(told: "Explained") -> list[str]:
    known = told.run.provenance
    lines = []
    if known:
        code = f"skipdit {known.get('skipdit')}"
        if commit := known.get("commit"):
            code += f" ({commit[:12]}{' with changes' * bool(known.get('dirty'))})"
        packages = (f"{name} {known.get(name)}" for name in ("torch", "diffusers", "python"))
        lines += [
            f"begun: {known.get('time')} on {known.get('device') or 'an unknown device'}",
            f"code: {code}, {', '.join(packages)}",
            f"begun by: {known.get('command')}",
        ]
    if told.changed:
        lines.append(f"note: {told.changed}")
    if told.again:
        lines.append(f"{'anew' if told.changed else 'again'}: {told.again}")
    elif not told.changed:
        lines.append("again: no single command of this machine makes these samples")
    return lines


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return size(value) if unit == "B" else f"{value:.5g} {unit}".rstrip()
