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
    from skipdit_cli.report import doctor as doctors

    checks = list(doctors.checks(results))
    if json:
        show_json([{"check": c, "state": s, "detail": d} for c, s, d in checks])
    else:
        show(table(("check", "", ""), checks))
    doctors.require(checks)
