"""Which steps AdaCache's own blocks compute, for residuals of temporal attention that are made up.

    PYTHONPATH=FOLDER_WITH_einops python make.py CHECKOUT/opensora_base/.../stdit/stdit3.py

of AdaCache-DiT/AdaCache 2c6d3ca; writes decisions.json beside this file. Attention gives what it is
told; norms, MLPs and text give nothing, and packages that only these take are replaced.
"""

import json
import random
import sys
import types
from pathlib import Path

import torch
from torch import nn

STEPS, LAYERS, FRAMES, PLACES = 30, 2, 4, 2
FAST = {0.08: 6, 0.16: 5, 0.24: 4, 0.32: 3, 0.40: 2, 1.00: 1}
SLOW = {0.08: 3, 0.16: 2, 0.24: 1, 0.32: 1, 0.40: 1, 1.00: 1}
HUNDRED = {0.03: 12, 0.05: 10, 0.07: 8, 0.09: 6, 0.11: 4, 1.00: 3}
MOTION = {"apply_moreg": True, "moreg_steps": (4, 26), "moreg_hyp": (0.385, 8, 1, 2)}
CASES = {
    "fast": {"codebook": FAST, "cache_loc": [0]},
    "slow": {"codebook": SLOW, "cache_loc": [1]},
    "hundred": {"codebook": HUNDRED, "cache_loc": [0]},
    "mean of two layers": {"codebook": FAST, "cache_loc": [0, 1]},
    "motion": {"codebook": FAST, "cache_loc": [0], **MOTION},
    "motion at two strides": {
        "codebook": FAST,
        "cache_loc": [0, 1],
        **MOTION,
        "moreg_strides": [1, 3],
        "moreg_steps": (2, 20),
        "moreg_hyp": (0.3, 2, 1.5, 2),
        "mograd_mul": 2,
    },
}


class Anything(types.ModuleType):
    """A package of classes that do nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {})


class Given(nn.Module):
    """Attention that gives what it is told."""

    def __init__(self, *_, **__):
        super().__init__()
        self.now = 0.0

    def forward(self, x, *_):
        return torch.zeros_like(x) + self.now


class Nothing(nn.Module):
    def __init__(self, *_, **__):
        super().__init__()

    def forward(self, x):
        return torch.zeros_like(x)


def official(path):
    """The module, with what is not of AdaCache in it replaced."""
    base = "opensora_base.opensora."
    packages = (
        *("opensora_base", base[:-1], f"{base}acceleration", f"{base}models", f"{base}utils"),
        *(f"{base}acceleration.{name}" for name in ("checkpoint", "communications")),
        *(f"{base}acceleration.parallel_states", f"{base}models.layers"),
        *(f"{base}models.layers.blocks", f"{base}registry", f"{base}utils.ckpt_utils"),
        *("rotary_embedding_torch", "transformers", "timm", "timm.models"),
        *("timm.models.layers", "timm.models.vision_transformer"),
    )
    made = {name: Anything(name) for name in packages}
    sys.modules.update(made)
    blocks = made[f"{base}models.layers.blocks"]
    blocks.get_layernorm = lambda *_, **__: nn.Identity()
    blocks.t2i_modulate = lambda x, shift, scale: x
    blocks.Attention = blocks.MultiHeadCrossAttention = Given
    made[f"{base}registry"].MODELS = types.SimpleNamespace(
        register_module=lambda name: lambda function: function
    )
    made["transformers"].PretrainedConfig = object
    made["transformers"].PreTrainedModel = nn.Module
    made["timm.models.vision_transformer"].Mlp = Nothing
    module = types.ModuleType("stdit3")
    exec(compile(Path(path).read_text(), path, "exec"), vars(module))
    return module


def residuals():
    """Of every layer and step, [frames, places]: walks that are fast at first and at the end."""
    draw, found = random.Random(5), []
    for _ in range(LAYERS):
        now = [[draw.gauss(0, 1) for _ in range(PLACES)] for _ in range(FRAMES)]
        walk = []
        for step in range(STEPS):
            pace = 0.3 * abs(2 * step / STEPS - 1) ** 2 + 0.02
            now = [[value + draw.gauss(0, pace) for value in frame] for frame in now]
            walk.append([[round(value, 3) for value in frame] for frame in now])
        found.append(walk)
    return found


def full_steps(module, how, walks):
    """The steps, from 0, that the blocks compute."""
    spatial, temporal = (
        [
            module.STDiT3Block(1, 1, temporal=time, blk_id=i, num_sampling_steps=STEPS,
                               do_cache=True, cache_res="t-attn", **how)
            for i in range(LAYERS)
        ]
        for time in (False, True)
    )  # fmt: skip
    for block in (*spatial, *temporal):
        block.scale_shift_table.data.zero_()
    rate, found = 1, []
    for step in range(STEPS):
        told = {"avg_diff": 0, "count": 0, "attn_cache_rate": rate, "new_attn_cache_rate": rate}
        x = torch.zeros(1, FRAMES * PLACES, 1)
        for block, block_in_time, walk in zip(spatial, temporal, walks, strict=True):
            block_in_time.attn.now = torch.tensor(walk[step]).T[..., None]  # [places, frames, 1]
            for each in (block, block_in_time):
                x, told = each(x, None, torch.ones(1, 6), told, T=FRAMES, S=PLACES)
        rate = told["new_attn_cache_rate"]
        if step == STEPS - 1 or temporal[0].attn_recomputed_steps[-1] == step + 1:
            found.append(step)
    return found


if __name__ == "__main__":
    module, walks = official(sys.argv[1]), residuals()
    with torch.no_grad():
        cases = {
            name: {
                **{key: value for key, value in how.items() if key != "codebook"},
                "metric_thres": list(how["codebook"]),
                "cache_rates": list(how["codebook"].values()),
                "full": full_steps(module, how, walks),
            }
            for name, how in CASES.items()
        }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    Path(__file__).with_name("decisions.json").write_text(
        f'{{"residuals": {json.dumps(walks)},\n"cases": {{\n{lines}\n}}}}\n'
    )
