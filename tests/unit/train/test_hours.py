"""What official training costs, in docs/training.md: counted operations and assumed rates.

`python tests/unit/train/test_hours.py` prints the table.
"""

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.plan.gpus import GPUS
from skipdit_cli.train import official

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
BEGIN, END = "<!-- official: begin -->\n", "<!-- official: end -->"
DATA = {
    "dit-xl-2": "ImageNet, training split",
    "ffs": "FaceForensics",
    "skytimelapse": "SkyTimelapse",
    "taichi": "Taichi-HD",
    "ucf101": "UCF101",
    "latte": "300,000 clips of Vimeo with captions",
}


def forward(name):
    """Floating-point operations of a sample in one forward pass, by torch's own counter."""
    model = networks.meta(catalog.card(name))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**model.inputs(1, device="meta"))
    return counter.get_total_flops()


def hours(name):
    """On eight H100, three times the forward pass; images count as frames of clips."""
    given, frames = official.settings(catalog.card(name)), 16
    beside = 1 + given.get("images_per_clip", 0) / frames
    flops = 3 * forward(name) * beside * given["batch_size"] * given["steps"]
    return flops / (8 * GPUS["h100"].rates[given["precision"]] * 1e12 * 3600)


def table():
    lines = [
        "| model | data | steps | batch | precision | hours on 8 H100 |",
        "|:--|:--|--:|--:|:--|--:|",
    ]
    for name, given in official.SETTINGS.items():
        skip = f"{name}-skip"
        lines.append(
            f"| {skip} | {DATA[name]} | {given['steps']:,} | {given['batch_size']} | "
            f"{given['precision']} | {hours(skip):,.0f} |"
        )
    return "\n".join(lines) + "\n"


def test_the_page_has_the_hours_of_official_training():
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == table()


def test_the_operations_of_dit_xl_2():
    """118.64 GMACs in the DiT paper's count, two operations each; the skip branches are more."""
    assert abs(forward("dit-xl-2") / 2 / 118.64e9 - 1) < 0.01
    assert 1.05 < forward("dit-xl-2-skip") / forward("dit-xl-2") < 1.2


if __name__ == "__main__":
    print(table(), end="")
