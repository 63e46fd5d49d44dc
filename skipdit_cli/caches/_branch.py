"""What methods share that run the outer layers alone: how many of them."""

from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout

# Of the official code for each family (OpenSparseLLMs/Skip-DiT at 72609de); of the others 1.
OFFICIAL = {"dit": 4, "latte": 1}


def branch_of(given: int | None, layout: Layout) -> int:
    """How many layers at each end run on a cached step.

    Args:
        given: None for that of the model's family, less in a shallow network, so that a layer is
            left to reuse.
    Raises:
        UsageError: no layer is left, or one that runs is joined with one that does not.
    """
    most = (layout.layers - 1) // 2
    branch = given or max(1, min(OFFICIAL.get(layout.family, 1), most))
    if 2 * branch >= layout.layers:
        raise UsageError(
            f"branch={branch} leaves no layer to reuse of {layout.layers}",
            fix=f"branch is at most {most}",
        )
    outer = set(range(branch)) | set(range(layout.layers - branch, layout.layers))
    for to, source in layout.skips:
        if to in outer and source not in outer:
            raise UsageError(f"layer {to} is joined with layer {source}, which would not be run")
    return branch
