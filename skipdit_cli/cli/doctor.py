"""skipdit doctor"""

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, table


@app.command()
def doctor(
    results: options.Root = "results",  # type: ignore[assignment]
    json: options.Json = False,
) -> None:
    """Check the installation: versions, devices, embedded models, weights, what recipes lack."""
    from skipdit_cli.errors import SkipditError

    checks = [
        *_environment(),
        *_embedded(),
        _folder(results),
        *_weights(),
        *_recipes(),
    ]
    if json:
        show_json([{"check": c, "state": s, "detail": d} for c, s, d in checks])
    else:
        show(table(("check", "", ""), checks))
    if broken := [check for check, state, _ in checks if state == "broken"]:
        raise SkipditError(f"{len(broken)} checks failed: {', '.join(broken)}")


Check = tuple[str, str, str]


def _environment() -> list[Check]:
    from skipdit_cli.provenance import collect

    facts = collect(import_torch=True)
    versions = [(name, facts[name]) for name in ("skipdit", "python", "torch", "diffusers")]
    rows = [(name, "ok" if v else "broken", str(v or "missing")) for name, v in versions]
    return [*rows, ("device", "ok", f"{facts['device']}, {facts['threads']} threads")]


def _embedded() -> list[Check]:
    import torch

    from skipdit_cli import weights

    found = []
    for card in weights.CARDS.values():
        if not card.embedded:
            continue
        try:
            model = weights.load(card.name)
            with torch.no_grad():
                sample = model(**model.inputs(1), return_dict=False)[0]
            sound = bool(torch.isfinite(sample).all())
            size = sum(parameter.numel() for parameter in model.parameters())
            found.append((card.name, "ok" if sound else "broken", f"{size / 1e6:.2f} M parameters"))
        except Exception as error:
            found.append((card.name, "broken", str(error)))
    return found


def _folder(results) -> Check:
    from skipdit_cli.errors import SkipditError
    from skipdit_cli.store import check_writable

    try:
        check_writable(results)
    except SkipditError as error:
        return ("results folder", "broken", str(error))
    return ("results folder", "ok", str(results))


def _weights() -> list[Check]:
    from skipdit_cli import weights

    rows = []
    for card in weights.CARDS.values():
        if card.embedded:
            continue
        path = weights.locate(card.name)
        absent = f"skipdit download {card.name} ({weights.size_text(card.size)})"
        rows.append((card.name, "ok" if path else "absent", str(path) if path else absent))
    return rows


def _recipes() -> list[Check]:
    from skipdit_cli import recipe, weights

    rows = []
    for name in recipe.names():
        paper = recipe.load(name, scale="paper")
        models = sorted({model for row in paper.rows for model in row.models.values()})
        lacking = [model for model in models if weights.locate(model) is None]
        detail = f"paper scale lacks {', '.join(lacking)}" if lacking else "both scales can run"
        rows.append((f"recipe {name}", "ok" if not lacking else "tiny only", detail))
    return rows
