"""I3D trained on Kinetics-400, as StyleGAN-V's TorchScript file: what FVD sees.

A clip is described by the 400 logits. The file itself brings frames to 224x224 (bilinear) and
scales them to [-1,1].

Source: Skip-DiT class-to-video/tools (fvd2048_16f), after StyleGAN-V.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Asset, Extract, Extractor, _networks

if TYPE_CHECKING:
    from torch import nn

FRAMES = 16  # of a clip
BATCH = 8  # clips in the network at once


def _load(assets: Mapping[str, Path], device: str) -> Extract:
    """Clips uint8 [T,H,W,3] -> logits [N,400]."""
    import torch

    try:
        network = torch.jit.load(assets["i3d"], map_location=device).eval()
    except RuntimeError as error:
        raise UsageError(
            f"is not a TorchScript file ({str(error).splitlines()[0][:80]})",
            place=str(assets["i3d"]),
            fix=_networks.again("i3d"),
        ) from None

    return extractor(network, device)


def extractor(network: "nn.Module", device: str) -> Extract:
    """Clips uint8 [T,H,W,3] -> what a detector with the file's three switches gives of them."""
    import torch

    def extract(clips: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(clips), BATCH):
            batch = torch.from_numpy(np.stack(clips[start : start + BATCH]))  # [n,T,H,W,3]
            batch = batch.to(device).permute(0, 4, 1, 2, 3).float()  # [n,3,T,H,W], 0 to 255
            with torch.inference_mode():
                logits = network(batch, rescale=True, resize=True, return_features=True)
            parts.append(logits.float().cpu())
        return {"logits": torch.cat(parts).numpy()}

    return extract


FILE = Asset(
    name="i3d",
    what="I3D of StyleGAN-V's FVD (TorchScript)",
    source="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    file="i3d_torchscript.pt",
    size=51_235_320,
    # StyleGAN-V gives the address alone. Ten public checks of this file agree on the hash,
    # among them that of the hub's ByteDance/LatentSync-1.6, auxiliary/i3d_torchscript.pt.
    digest="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    licence="not stated (I3D itself: Apache-2.0)",
    runs_code=True,
)
EXTRACTOR = Extractor("i3d", 1, (FILE,), _load, values=400)
