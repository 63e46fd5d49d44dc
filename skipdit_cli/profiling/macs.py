"""What one call of a denoiser costs, site by site: MACs in the paper's counting, and FLOPs.

`macs_paper` is what `thop` 0.1.1 counts on the official implementation, the "FLOPs" of the paper's
tables: `nn.Linear`, `nn.Conv2d` and `nn.LayerNorm` modules matched by exact class (so the float32
norm of a skip branch is left out), no attention products. The official video code runs every
adaLN, and the keys and values of a caption, once per frame or place, ours once per clip (a family's
`official_calls`); `macs_executed` has the same rules on what ours runs.
`flops` is what `torch.utils.flop_counter` counts, 2 per multiply-accumulate: linears, convolutions
and the two matrix products of attention, no norms.

Only shapes matter, so a model and inputs on the meta device are enough.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.profiling.cost import Cost, Costs
from skipdit_cli.sites import Site, site_modules

if TYPE_CHECKING:
    from skipdit_cli.models import Network


def site_costs(
    model: "Network",
    *calls: Mapping[str, Any],
    official: Mapping[nn.Module, int] | None = None,
    sites: Mapping[Site, nn.Module] | None = None,
) -> Costs:
    """Count full calls of a model, its sites apart, all calls together.

    A site that is not called costs nothing.

    Args:
        calls: the arguments of each.
        sites: the modules of a model that does not announce its `SITES`.
        official: how often the official code runs a module that the model runs once.
    """
    announced = sites or site_modules(model)
    names = {module: site for site, module in announced.items()}
    official = official or {}
    costs = dict.fromkeys(announced, Cost())
    inside: dict[Site, Site] = {}
    open_sites: list[tuple[Site, Cost]] = []
    macs = Cost()
    flops = FlopCounterMode(display=False)

    def now() -> Cost:
        return Cost(macs.macs_paper, macs.macs_executed, flops.get_total_flops())

    def enter(module: nn.Module, args: tuple) -> None:
        if site := names.get(module):
            if open_sites:
                inside[site] = open_sites[-1][0]
            open_sites.append((site, now()))

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        nonlocal macs
        if isinstance(output, Tensor):
            count = _macs(module, output)
            macs += Cost(count * official.get(module, 1), count)
        if module in names:
            site, before = open_sites.pop()
            costs[site] += now() - before

    with _hooks(model, enter, leave), flops, torch.no_grad():
        for inputs in calls:
            model(**inputs)
    return Costs(total=now(), sites=costs, inside=inside)


def _macs(module: nn.Module, output: Tensor) -> int:
    """MACs of one call of a leaf module by thop's rules; zero for what thop does not know."""
    if type(module) is nn.Linear:
        return output.numel() * module.in_features
    if isinstance(module, nn.Conv2d | nn.Conv3d) and type(module) in (nn.Conv2d, nn.Conv3d):
        return output.numel() * module.weight[0].numel()
    if type(module) is nn.LayerNorm:
        return output.numel() * (4 if module.elementwise_affine else 2)
    return 0


@contextmanager
def _hooks(
    model: nn.Module,
    enter: Callable[[nn.Module, tuple], None],
    leave: Callable[[nn.Module, tuple, object], None],
) -> Iterator[None]:
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
