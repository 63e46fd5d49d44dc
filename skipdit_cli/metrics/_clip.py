"""CLIP as torchmetrics expects it: its features, and what prepares images and prompts for it."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from skipdit_cli.errors import shortened, warn


class Clip(nn.Module):
    """CLIP with the features as tensors, which torchmetrics expects and transformers 5 wraps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        return _tensor(self.model.get_image_features(pixel_values))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return _tensor(self.model.get_text_features(input_ids, attention_mask=attention_mask))


def _tensor(features: Any) -> Tensor:
    return features if isinstance(features, Tensor) else features.pooler_output


class Network(NamedTuple):
    """What scores: CLIP, and what prepares images and prompts for it."""

    model: nn.Module  # a Clip
    images: Any
    tokenizer: Any
    device: str
    most: int = 77  # tokens of a prompt that are read

    def process(
        self, *, return_tensors: str, padding: bool, text: Any = None, images: Any = None
    ) -> Any:
        """As a CLIPProcessor, but a long prompt is cut where its end token stays, and told."""
        if images is not None:
            return self.images(images=images, return_tensors=return_tensors)
        read = self.tokenizer(text, return_tensors=return_tensors, padding=padding, truncation=True)
        for prompt, ids in zip(text, read["input_ids"], strict=True):
            if ids.numel() == self.most:
                self._tell(prompt)
        return read

    def _tell(self, prompt: str) -> None:
        """Warn of a prompt with more tokens than are read."""
        if (cut := len(self.tokenizer(prompt, verbose=False)["input_ids"]) - self.most) > 0:
            place = f"CLIP score prompt '{shortened(prompt)}'"
            problem = f"CLIP reads {self.most} tokens of it and {cut} are cut"
            warn(problem, place=place, fix="write it shorter")
