"""Full-size models against the keys and shapes of the published checkpoints, one to one.

`golden/manifests/<name>.json`: official state-dict key -> shape, of the official classes at the
size of the published files (OpenSparseLLMs/Skip-DiT 72609de).
"""

import json
from pathlib import Path

import pytest
import torch

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.checkpoints.official import from_official
from skipdit_cli.errors import UsageError

GOLDEN = Path(__file__).parent / "golden" / "manifests"
# name -> tensors and their elements, as counted on the official classes
SIZES = {
    "dit-xl-2": (292, 675_129_632),
    "dit-xl-2-skip": (348, 712_369_184),
    "taichi": (292, 673_994_912),
    "taichi-skip": (320, 692_614_688),
    "ucf101": (293, 674_112_416),
    "ucf101-skip": (321, 692_732_192),
    "latte": (968, 1_057_738_400),
    "latte-skip": (1024, 1_094_977_952),
    "hunyuan-dit": (1304, 1_499_952_032),
}
# official buffers that no forward reads: not in our model
UNUSED = {"caption_projection.y_embedding": 120 * 4096}


def manifest(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", SIZES)
def test_converted_keys_and_shapes_are_those_of_our_model(name):
    """On the meta device, so that a tensor that is cut in parts costs nothing."""
    official, model = manifest(name), networks.build(catalog.card(name), device="meta")
    state = {key: torch.empty(shape, device="meta") for key, shape in official.items()}
    converted = registry.load("models", model.layout().family).convert(state, model.config)
    ours = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in converted.items()} == ours

    elements = sum(value.numel() for value in state.values())
    assert (len(official), elements) == SIZES[name]
    unused = sum(count for key, count in UNUSED.items() if key in official)
    assert sum(value.numel() for value in converted.values()) == elements - unused


@pytest.mark.parametrize(
    ("name", "family", "arguments"),
    [
        ("dit-xl-2-skip", "dit", {"depth": 28, "skip": True}),
        ("taichi-skip", "latte", {"extras": 1, "num_classes": 1000, "skip": True}),
        ("ucf101-skip", "latte", {"extras": 2, "num_classes": 101, "skip": True}),
    ],
)
def test_the_public_loader_reports_what_does_not_fit(name, family, arguments):
    """On the meta device, where a state dict of 2.8 GB costs nothing."""
    state = {key: torch.empty(shape, device="meta") for key, shape in manifest(name).items()}
    assert from_official(family, arguments, state).layout().skips
    lost = next(key for key in state if key.startswith("skip_linears.3"))
    del state[lost]
    state["head.weight"] = torch.empty(1, device="meta")
    state["x_embedder.proj.bias"] = torch.empty(7, device="meta")
    with pytest.raises(UsageError) as caught:
        from_official(family, arguments, state)
    said = str(caught.value)
    assert "1 keys missing (" in said
    assert ".skip.linear." in said
    assert "1 keys left over (head.weight)" in said
    assert "1 shapes differ (x_embedder.proj.bias is (7,), not (1152,))" in said
