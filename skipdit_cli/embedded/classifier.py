"""The embedded classifiers: the feature networks of every `@digits` and `@fashion` metric."""

import functools

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from skipdit_cli.embedded import CLASSIFIERS, shipped

WEIGHTS = "model.safetensors"


class Classifier(nn.Module):
    """Four convolutions, 64 features, 10 classes. Images [N, 1, side, side] in [-1, 1]; the side is
    16 pixels or a multiple of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.conv4 = nn.Conv2d(48, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 4, 64)
        self.output = nn.Linear(64, 10)

    def features(self, images: Tensor) -> Tensor:
        """[N, 1, side, side] -> [N, 64], before the last linear layer."""
        x = F.relu(self.conv1(images))  # [N, 16, side, side]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [N, 32, side / 2, side / 2]
        x = F.relu(F.max_pool2d(self.conv3(x), 2))  # [N, 48, side / 4, side / 4]
        x = F.relu(F.adaptive_max_pool2d(self.conv4(x), 2))  # [N, 64, 2, 2]
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, side, side] -> logits [N, 10]"""
        return self.output(self.features(images))


@functools.cache
def load_classifier(data: str) -> Classifier:
    """The trained classifier of embedded data, in float32 and eval mode."""
    weights = load_file(shipped.embedded() / CLASSIFIERS[data] / WEIGHTS)
    model = Classifier()
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    return model.requires_grad_(False).eval()
