"""torch.compile of a network part by part, under any cache.

A part is a layer or, of a layer that a cache acts inside of, each of its sites. Its own `forward`
is compiled and the hook of a cache stands around it, so nothing that changes from step to step is
compiled in. What torch has compiled belongs to the code of a part, not to the module: layers of one
structure share it, and it outlives the block, so that every further loop in the process has it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from skipdit_cli.errors import SkipditError
from skipdit_cli.sites import Site

if TYPE_CHECKING:
    from torch import nn

BACKEND = "inductor"
VARIANTS = 64  # of one part: with a skip or without, shapes, dtypes; torch gives up at 8


@contextmanager
def compiled(sites: "Mapping[Site, nn.Module]", hooked: Iterable[Site]) -> Iterator[None]:
    """The parts of a network compiled while the block runs; a cache is attached inside of it.

    Each is compiled when it is first called, and again for every other shape.

    Args:
        sites: of the network, its layers among them.
        hooked: those that the cache acts on.
    Raises:
        SkipditError: they cannot be compiled here, as without a C++ compiler.
    """
    import torch
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    modules = parts(sites, hooked)
    limits = {"recompile_limit": VARIANTS, "fail_on_recompile_limit_hit": True}
    try:
        with ExitStack() as stack:
            for module in modules:
                forward = torch.compile(module.forward, backend=BACKEND, dynamic=False)
                stack.enter_context(instead(module, forward))
            stack.enter_context(torch._dynamo.config.patch(limits))  # type: ignore[attr-defined]
            yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        cause = getattr(error, "inner_exception", error)
        said = (str(cause).strip() or type(cause).__name__).splitlines()[0][:200]
        raise SkipditError(
            f"the layers cannot be compiled here ({said})",
            place="compile",
            fix="install a C++ compiler, as g++, or leave it out",
        ) from error


@contextmanager
def instead(module: "nn.Module", forward: Callable[..., Any]) -> Iterator[None]:
    """A module that computes something else; in the end as before, whoever had wrapped it."""
    own = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        vars(module).pop("forward", None)
        if own is not None:
            vars(module)["forward"] = own


def parts(sites: "Mapping[Site, nn.Module]", hooked: Iterable[Site]) -> "list[nn.Module]":
    """What is compiled: whole layers, but the sites of those in which a cache acts."""
    within = {site.layer for site in hooked if site.kind != "layer"}
    return [
        module for site, module in sites.items() if (site.kind == "layer") != (site.layer in within)
    ]
