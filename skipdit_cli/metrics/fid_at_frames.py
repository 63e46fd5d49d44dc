"""Frechet Inception distance over the frames of clips, by the protocol of StyleGAN-V's tools.

FID (`fid.py`) where every frame counts as an image; covariance with ddof 0. The paper's 2,048 clips
of 16 frames are 32,768 frames, beside the first 17 frames of every real video.

The official tools take NVIDIA's copy of Inception, a pickle that runs code when it is read; this is
torch-fidelity's copy of the same network, with the same resize.

Source: Skip-DiT class-to-video/tools (fid50k_full), after StyleGAN-V; as shipped it cannot run.
"""

from collections.abc import Iterable

from skipdit_cli.metrics import Features, Reference, _frechet, _inception

NAME = "fid@frames"
LABEL = "FID@frames"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2v",)
VERSION = 2
PROTOCOL = "StyleGAN-V fid50k_full, frames"

EXTRACTOR = _inception.FRAMES
REFERENCE = "{dataset}/released"


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The distance of the frames of clips from real frames, at least two of them."""
    return _frechet.from_features(features, reference, "pool", ddof=0)
