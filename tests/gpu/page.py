"""The page beside the numbers of a GPU: one table per part."""

from typing import Any

from tabulate import tabulate

TITLES = {
    "parity": "The processor's samples and the GPU's, float32, embedded models",
    "speed": "Steps at full size, random weights",
    "official": "Ours and the official networks, the same weights and inputs",
    "compiled": "What --compile gives",
    "decoding": "Decoding a batch",
    "precision": "One call of each network against float64",
    "sweep": "cache-sweep with two workers, twice",
}


def to_markdown(report: dict[str, Any]) -> str:
    """What `check.py` found, for people."""
    heading = f"# {report['device']}\n\nskipdit {report['skipdit']} at {report['commit']}"
    heading += f"{' and changes' if report['dirty'] else ''}, torch {report['torch']}, CUDA "
    heading += f"{report['cuda']}, {report['time']}; {report['scale']} scale. `make gpu-check`."
    sections = [heading]
    for part, title in TITLES.items():
        facts = [fact for fact in report["facts"] if fact["part"] == part]
        if facts:
            sections.append(f"## {title}\n\n{_section(facts)}")
    return "\n\n".join(sections) + "\n"


def _section(facts: list[dict[str, Any]]) -> str:
    rows = [fact for fact in facts if not {"error", "skipped", "part_s"} & fact.keys()]
    said = [_said(fact) for fact in facts if fact not in rows]
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "part"]
    table = tabulate(
        [[_text(row.get(key)) for key in columns] for row in rows],
        [column.replace("_", " ") for column in columns],
        tablefmt="pipe",
        disable_numparse=True,
    )
    return "\n\n".join(filter(None, [table if rows else "", *said]))


def _said(fact: dict[str, Any]) -> str:
    if "error" in fact:
        return f"Failed:\n\n```\n{fact['error']}\n```"
    return f"Not done: {fact['skipped']}." if "skipped" in fact else f"{fact['part_s']:.0f} s."


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
