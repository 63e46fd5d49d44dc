"""Prompt lists that are fetched: files as they were published, and COCO's captions.

The files are taken at a commit, of which size and sha256 were computed; what the prompts are read
from is the file itself.
"""

from pathlib import Path

from skipdit_cli.assets import assets, coco
from skipdit_cli.checkpoints.inventory import COCO, coco_list
from skipdit_cli.metrics import Asset

_RAW = "https://raw.githubusercontent.com"
_LISTS = (
    # Published with Imagen (arXiv 2205.11487) as a spreadsheet that states no licence; this file is
    # beside the samples of DALL-E 3, and the licence is that of their repository.
    Asset(
        name="drawbench",
        what="the 200 prompts of DrawBench",
        source=f"{_RAW}/openai/dalle3-eval-samples/d7c88c07b492ad7b9fd3003126d00719a2edabb1/"
        "prompts/drawbench.txt",
        file="drawbench.txt",
        size=12_977,
        digest="3d4f4b2db7520208ee056d470202c07fd77766b96d133ea9f4ab00a323381e9a",
        licence="MIT",
        folder="prompts",
    ),
    Asset(
        name="geneval",
        what="the 553 prompts of GenEval",
        source=f"{_RAW}/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/"
        "prompts/evaluation_metadata.jsonl",
        file="evaluation_metadata.jsonl",
        size=85_209,
        digest="5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
        licence="MIT",
        folder="prompts",
    ),
    Asset(
        name="parti",
        what="the 1,632 PartiPrompts (P2)",
        source=f"{_RAW}/google-research/parti/5a657978134374ce28973948331b319adef164bd/"
        "PartiPrompts.tsv",
        file="PartiPrompts.tsv",
        size=123_107,
        digest="fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb",
        licence="Apache-2.0",
        folder="prompts",
    ),
)
PUBLISHED = {asset.name: asset for asset in _LISTS}
NAMES = (COCO, *PUBLISHED)


def state(name: str) -> str:
    """One of "here", "absent" and "damaged", seen from names and sizes."""
    if name == COCO:
        return "here" if path(name).is_file() else "absent"
    return assets.state(PUBLISHED[name])[0]


def sound(name: str) -> bool:
    """Whether a list is here as it was fetched."""
    return coco.sound() if name == COCO else not assets.lacking(PUBLISHED[name])


def path(name: str) -> Path:
    """The file of a list, whether it is here or not."""
    return coco_list() if name == COCO else assets.target(PUBLISHED[name])


def size(name: str) -> int:
    """Bytes of the download, of COCO's captions about."""
    return coco.SIZE if name == COCO else PUBLISHED[name].size
