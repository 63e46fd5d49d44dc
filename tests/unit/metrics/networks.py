"""Networks of the real architectures with random weights, put where downloaded ones would be."""

import io
import json
from pathlib import Path

import torch
from torch import nn

from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import local

WORDS = ("a", "dog", "cat", "on", "red", "blue", "sofa")


class StandIn(nn.Module):
    """Answers as the TorchScript file of I3D: three switches, 400 logits of a clip."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 400)

    def forward(
        self, x, rescale: bool = False, resize: bool = False, return_features: bool = False
    ):
        x = x.float()
        if resize:
            shape = x.shape
            x = x.transpose(1, 2).flatten(0, 1)
            x = nn.functional.interpolate(x, size=[224, 224], mode="bilinear", align_corners=False)
            x = x.unflatten(0, [shape[0], shape[2]]).transpose(1, 2)
        if rescale:
            x = 2 * x / 255 - 1
        return self.linear(nn.functional.adaptive_avg_pool3d(x, [2, 2, 2]).flatten(1))


def alexnet(path: Path) -> None:
    from torchvision.models import alexnet

    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), path)


def inception(path: Path) -> None:
    from torch_fidelity import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            return None

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    blank = Blank("blank", ["2048"], feature_extractor_weights_path=empty)
    torch.save(blank.state_dict(), path)


def i3d(path: Path) -> None:
    torch.manual_seed(0)
    torch.jit.script(StandIn()).save(path)


def clip(folder: Path) -> None:
    """CLIP with all its parts, 77 tokens and a vocabulary of a few words."""
    from transformers import CLIPConfig, CLIPModel

    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    letters = sorted(set("".join(WORDS)))
    for token in [*letters, *(f"{letter}</w>" for letter in letters), *(f"{w}</w>" for w in WORDS)]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = ["#version: 0.2"]
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            parts = [parts[0] + parts[1], *parts[2:]]
            vocabulary.setdefault(parts[0], len(vocabulary))
            merges += [merge] if merge not in merges else []
    config = CLIPConfig(
        projection_dim=16,
        text_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 77,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 32},
                "crop_size": {"height": 32, "width": 32},
            }
        )
    )


def clip_336(folder: Path) -> None:
    """CLIP that sees 336 pixels, in patches four times as wide."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    small["num_hidden_layers"] = 2
    vision = {**small, "image_size": 336, "patch_size": 56}
    text = {**small, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    config = CLIPConfig(projection_dim=16, text_config=text, vision_config=vision)
    CLIPModel(config).save_pretrained(folder)


def dino(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    ViTModel(ViTConfig(**small, num_hidden_layers=2)).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    Dinov2Model(Dinov2Config(**small, image_size=518, patch_size=14)).save_pretrained(folder)


MAKE = {
    "alexnet": alexnet,
    "inception": inception,
    "i3d": i3d,
    "clip": clip,
    "clip-336": clip_336,
    "dino": dino,
    "dinov2": dinov2,
    "dinov2-large": dinov2,
}


def install(monkeypatch, home: Path, *names: str) -> None:
    """Put stand-ins under a home, and have the catalogue take them for what it knows."""
    monkeypatch.setenv("SKIPDIT_HOME", str(home))
    for name in names:
        asset = assets.declared()[name]
        target = assets.target(asset)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            if asset.file:
                MAKE[name](target)
            else:
                target.mkdir(exist_ok=True)
                MAKE[name](target)
        if asset.file:
            monkeypatch.setitem(vars(asset), "size", target.stat().st_size)
            monkeypatch.setitem(vars(asset), "digest", local.sha256(target))


def require(name: str) -> Path:
    """The file or folder of an asset."""
    return assets.require(assets.declared()[name])
