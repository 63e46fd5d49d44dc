"""skipdit gate"""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json, table


@app.command()
def gate(
    baseline: Annotated[Path, typer.Option("--baseline", help="The results folder of before.")],
    candidate: Annotated[Path, typer.Option("--candidate", help="The results folder of now.")],
    rule: Annotated[
        list[str],
        typer.Option(
            "--rule",
            help='A bound of a change, as "psnr >= -0.3 dB" or "latency <= +5 %"; may be repeated.',
        ),
    ],
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML there.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write a table for a pull request there.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Check that no metric or timing changed by more than it may, for CI; exit code 5 if one did.

    Every rule is checked for every run that both folders have a number of; a run that the candidate
    has no number of is an error, and so is a rule of which there is none. Scores of the same
    samples are compared in pairs; timings by their medians, which need the same idle machine.
    """
    from skipdit_cli.errors import ToleranceError, UsageError
    from skipdit_cli.report import gated
    from skipdit_cli.score import gate as gates
    from skipdit_cli.storage.disk import write_whole

    rules = [gates.parse_rule(text, place="--rule") for text in rule]
    for folder, place in ((baseline, "--baseline"), (candidate, "--candidate")):
        if not folder.is_dir():
            raise UsageError(
                f"there is no folder {folder}", place=place, fix="name a results folder"
            )
    checks = gates.checks(baseline, candidate, rules)
    written = {}
    if junit:
        written[junit] = gated.to_junit(checks)
    if markdown:
        written[markdown] = gated.to_markdown(checks).encode()
    for path, data in written.items():
        write_whole(path, data)
    if json:
        show_json([check.content for check in checks])
    else:
        show(table(gated.HEADINGS, gated.rows(checks)))
    for path in written:
        say(f"wrote {path}")
    if broken := gates.broken(checks):
        first = broken[0]
        raise ToleranceError(
            f"{len(broken)} of {len(checks)} checks are broken, first '{first.rule.text}'",
            place=f"{first.run}",
            fix=f"it changed by {gated.told(first)}",
        )
