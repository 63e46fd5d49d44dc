"""A step of our networks beside the official code's, at full size, with the same random weights.

    python tests/bench/official.py FOLDER [--repeats N] [--device cuda] [--only c2i]

FOLDER is a checkout of OpenSparseLLMs/Skip-DiT, which is imported from there and nowhere copied.
Its networks need timm and einops. One call of each network is timed in turn, and the median of the
ratios is told; besides, what a call takes of matrix products alone: the linear layers on their own
weights, the patches, and the two products of attention, one after the other with nothing between.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

CASES = {  # file of the official code, its class, what that is built with, our family
    "c2i": ("class-to-image/models.py", "DiT_skip", {}, "dit"),
    "c2v": ("class-to-video/models/latte.py", "Latte_skip", {"extras": 1}, "latte"),
}
SIZE = {"hidden_size": 1152, "depth": 28, "num_heads": 16}


def refuse(problem: str) -> None:
    print(f"bench-official: {problem}", file=sys.stderr)
    raise SystemExit(2)


def official(folder: Path, file: str):
    """A file of the official code as a module."""
    path = folder / file
    if not path.is_file():
        refuse(f"{path} is not there; give the folder of a checkout of OpenSparseLLMs/Skip-DiT")
    import skipdit_cli  # noqa: F401  # timm imports torchvision, which it mends where that is broken

    spec = importlib.util.spec_from_file_location(path.stem + "_official", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        refuse(f"the official code needs {error.name}; `pip install timm==0.9.16 einops`")
    return module


def products(model, call):
    """A function of no arguments: the matrix products of one call of a network, and no more."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    done, given = [], {}

    def like(x):  # one tensor of each shape, as warm as what a network has just computed
        return given.setdefault(x.shape, torch.randn_like(x.contiguous()))

    class Attention(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is functional.scaled_dot_product_attention:
                query, key, value = map(like, args[:3])
                weights = like(query @ key.transpose(-2, -1))
                done.append(lambda: (query @ key.transpose(-2, -1), weights @ value))
            return function(*args, **(kwargs or {}))

    def kept(module, inputs):
        x = like(inputs[0])
        done.append(lambda: module(x))

    handles = [
        module.register_forward_pre_hook(kept)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with Attention():
        call()
    for handle in handles:
        handle.remove()
    return lambda: [product() for product in done]


def both(task: str, folder: Path, *, device: str):
    """Our network, the official one with the same random weights, and inputs by our names."""
    file, name, extra, family = CASES[task]
    network = getattr(official(folder, file), name)

    import torch

    from skipdit_cli.checkpoints.official import from_official

    theirs = network(**SIZE, **extra)
    theirs = theirs.to(device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for parameter in theirs.parameters():
        parameter.normal_(std=0.02, generator=generator)
    ours = from_official(family, {**SIZE, **extra, "skip": True}, theirs.state_dict())
    inputs = ours.inputs(2 if task == "c2i" else 1, device=device)  # images are guided
    shape = inputs["hidden_states"].shape
    inputs["hidden_states"] = torch.randn(shape, generator=generator, device=device)
    inputs["timestep"] += 500
    return ours.to(device), theirs, inputs


def bench(task: str, folder: Path, *, device: str, repeats: int) -> None:
    """Time a task and print what came of it."""
    ours, theirs, inputs = both(task, folder, device=device)

    import torch

    from skipdit_cli.profiling.latency import measure

    x, t, *labels = inputs.values()
    with torch.no_grad():
        a, b = ours(*inputs.values(), return_dict=False)[0], theirs(x, t, *labels)
        off = float((a - b).abs().max() / b.abs().max())
        alone = products(ours, lambda: ours(*inputs.values(), return_dict=False))
        timed = measure(
            {
                "official": lambda: theirs(x, t, *labels),
                "ours": lambda: ours(*inputs.values(), return_dict=False),
                "products": alone,
            },
            reference="official",
            repeats=repeats,
            device=device,
        )
    ratio = 1 / timed["ours"].median_speedup
    share = timed["products"].median_speedup
    print(
        f"{task}: official {timed['official'].median:.3f} s, ours {timed['ours'].median:.3f} s, "
        f"ratio {ratio:.3f}; matrix products alone {timed['products'].median:.3f} s, "
        f"{1 / share:.0%} of the official step and {1 / share / ratio:.0%} of ours "
        f"({tuple(x.shape)}, medians of {repeats}, outputs differ by {off:.1e})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a checkout of OpenSparseLLMs/Skip-DiT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=CASES)
    given = parser.parse_args()
    if not given.folder or not Path(given.folder).is_dir():
        refuse(
            f"there is no folder '{given.folder}'; clone OpenSparseLLMs/Skip-DiT outside of this "
            "tree and say where, as `make bench-official OFFICIAL=../Skip-DiT`"
        )
    for task in [given.only] if given.only else CASES:
        bench(task, Path(given.folder), device=given.device, repeats=given.repeats)


if __name__ == "__main__":
    main()
