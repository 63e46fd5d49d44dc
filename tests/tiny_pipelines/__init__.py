"""Tiny pipelines of diffusers with random weights, saved as plain pipeline folders.

They are whole: tokenizers, text encoders, transformer, scheduler and VAE are of the classes that a
released checkpoint of the pipeline has, only small, so that a test can drive any pipeline with a
cache. Every transformer has at least three blocks in each of its lists, and every block matters.
"""

from pathlib import Path
from typing import Any

import skipdit_cli  # noqa: F401  # diffusers imports torchvision, which it mends where broken

IMAGE = {"height": 32, "width": 16, "num_inference_steps": 4}
CLIP = {"height": 32, "width": 48, "num_inference_steps": 4}
GUIDED = {"guidance_scale": 4.0, "max_sequence_length": 32}
# The smallest sensible call of each, without prompt and generator.
CALLS: dict[str, dict[str, Any]] = {
    "flux": {**IMAGE, **GUIDED},
    "sd3": {**IMAGE, **GUIDED},
    "wan": {**CLIP, **GUIDED, "num_frames": 5},
    "wan22": {**CLIP, **GUIDED, "num_frames": 5},
    "cogvideox": {**CLIP, **GUIDED, "num_frames": 9},
    "hunyuan-video": {**CLIP, **GUIDED, "num_frames": 5},
    "ltx": {**CLIP, **GUIDED, "width": 64, "num_frames": 9},
    "pixart-sigma": {**IMAGE, **GUIDED, "use_resolution_binning": False},
    "qwen-image": {
        **IMAGE,
        "true_cfg_scale": 4.0,
        "negative_prompt": " ",  # without one there is no guidance
        "max_sequence_length": 32,
    },
    "latte": {**IMAGE, "guidance_scale": 4.0, "video_length": 4},
    "hunyuan-dit": {
        "height": 64,
        "width": 48,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "use_resolution_binning": False,
    },
    "sana": {**IMAGE, **GUIDED, "width": 32, "use_resolution_binning": False},
    "chroma": {**IMAGE, **GUIDED},
    "cogview4": {**IMAGE, **GUIDED},
    "z-image": {**IMAGE, **GUIDED, "negative_prompt": "b"},
    "easyanimate": {
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "negative_prompt": "",
    },
}
NAMES = tuple(CALLS)


def make(name: str, folder: Path) -> Path:
    """Write a pipeline of random weights, the same ones at every call.

    Args:
        name: one of NAMES. folder: gets model_index.json and a folder of each component.

    Returns:
        The folder.
    """
    from . import images, newer, videos

    pipeline = {**images.MAKERS, **videos.MAKERS, **newer.MAKERS}[name]()
    pipeline.save_pretrained(folder)
    return folder
