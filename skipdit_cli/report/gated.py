"""What came of a gate, for a pull request: a table in Markdown, and JUnit XML for a CI system."""

from collections.abc import Sequence
from xml.etree import ElementTree

from skipdit_cli.report.cells import within
from skipdit_cli.score.gate import Check

HEADINGS = ("rule", "run", "baseline", "candidate", "change", "95 % interval", "n", "")


def rows(checks: Sequence[Check]) -> list[tuple[str, ...]]:
    """A line for each check, as people read it."""
    return [
        (
            *(check.rule.text, check.run, f"{check.before:.5g}", f"{check.after:.5g}"),
            told(check),
            within(check.interval, "+.4g"),
            str(check.n or ""),
            "kept" if check.kept else "broken",
        )
        for check in checks
    ]


def told(check: Check) -> str:
    """The change in its unit: `-0.41 dB`."""
    return f"{check.change:+.4g} {check.rule.unit}".rstrip()


def to_markdown(checks: Sequence[Check]) -> str:
    """The table, what is broken first in bold, with a line that says how many are."""
    from tabulate import tabulate

    from skipdit_cli.storage.markup import in_cell

    count = sum(not check.kept for check in checks)
    head = f"**{count} of {len(checks)} checks are broken.**" if count else "All checks are kept."
    lines = [
        [in_cell(text) if text != "broken" else "**broken**" for text in row]
        for row in rows(checks)
    ]
    table = tabulate(lines, headers=HEADINGS, tablefmt="pipe", disable_numparse=True)
    return f"{head}\n\n{table}\n"


def to_junit(checks: Sequence[Check]) -> bytes:
    """A suite for every rule, a case for every run of it.

    Source: the format that Jenkins, GitLab and GitHub's actions read.
    """
    root = ElementTree.Element("testsuites", name="skipdit gate", tests=str(len(checks)))
    root.set("failures", str(sum(not check.kept for check in checks)))
    for rule in dict.fromkeys(check.rule for check in checks):
        own = [check for check in checks if check.rule == rule]
        failures = str(sum(not check.kept for check in own))
        suite = ElementTree.SubElement(
            root, "testsuite", name=rule.text, tests=str(len(own)), failures=failures
        )
        for check in own:
            case = ElementTree.SubElement(suite, "testcase", name=check.run, classname=rule.text)
            if not check.kept:
                message = f"{told(check)}: {check.before:.5g} before, {check.after:.5g} now"
                ElementTree.SubElement(case, "failure", message=message)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"
