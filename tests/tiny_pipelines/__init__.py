"""Tiny pipelines of diffusers with random weights, saved as plain pipeline folders.

They are whole: tokenizers, text encoders, transformer, scheduler and VAE are of the classes that a
released checkpoint of the pipeline has, only small, so that a test can drive any pipeline with a
cache. Every transformer has at least three blocks in each of its lists, and every block matters.
"""

from pathlib import Path
from typing import Any

import skipdit_cli  # noqa: F401  # diffusers imports torchvision, which it mends where broken

IMAGE = {"height": 32, "width": 16, "num_inference_steps": 4}
CLIP = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 4}
# The smallest sensible call of each, without prompt and generator.
CALLS: dict[str, dict[str, Any]] = {
    "flux": {**IMAGE, "guidance_scale": 3.5, "max_sequence_length": 32},
    "sd3": {**IMAGE, "guidance_scale": 4.0, "max_sequence_length": 32},
    "wan": {**CLIP, "guidance_scale": 4.0, "max_sequence_length": 32},
    "wan22": {**CLIP, "guidance_scale": 4.0, "max_sequence_length": 32},
    "pixart-sigma": {
        **IMAGE,
        "guidance_scale": 4.0,
        "max_sequence_length": 32,
        "use_resolution_binning": False,
    },
    "cogvideox": {**CLIP, "num_frames": 9, "guidance_scale": 4.0, "max_sequence_length": 32},
}
NAMES = tuple(CALLS)


def make(name: str, folder: Path) -> Path:
    """Write a pipeline of random weights, the same ones at every call.

    Args:
        name: one of NAMES. folder: gets model_index.json and a folder of each component.

    Returns:
        The folder.
    """
    from . import images, videos

    pipeline = {**images.MAKERS, **videos.MAKERS}[name]()
    pipeline.save_pretrained(folder)
    return folder
