"""The embedded digit classifier: the feature network of every `@digits` metric."""

import functools

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from skipdit_cli.embedded import shipped

WEIGHTS = shipped.embedded() / "classifier" / "model.safetensors"


class Classifier(nn.Module):
    """Four convolutions, 64 features, 10 classes. Images [N, 1, 16, 16] in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.conv4 = nn.Conv2d(48, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 4, 64)
        self.output = nn.Linear(64, 10)

    def features(self, images: Tensor) -> Tensor:
        """[N, 1, 16, 16] -> [N, 64], before the last linear layer."""
        x = F.relu(self.conv1(images))  # [N, 16, 16, 16]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [N, 32, 8, 8]
        x = F.relu(F.max_pool2d(self.conv3(x), 2))  # [N, 48, 4, 4]
        x = F.relu(F.max_pool2d(self.conv4(x), 2))  # [N, 64, 2, 2]
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """[N, 1, 16, 16] -> logits [N, 10]"""
        return self.output(self.features(images))


@functools.cache
def load_classifier() -> Classifier:
    """The trained classifier in float32, in eval mode."""
    model = Classifier()
    model.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS).items()})
    return model.requires_grad_(False).eval()
