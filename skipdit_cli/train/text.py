"""Train the small text encoders that ship with the embedded text models: a T5 and a BERT.

Their captions are few words, so they learn at once: every token's output has to tell the digit and
the direction that the caption names. The denoisers are then trained on their frozen outputs.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from skipdit_cli.embedded import captions
from skipdit_cli.generate.text import quiet
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

WIDTH = 32  # of the encoders' outputs
SPECIAL = ("<pad>", "</s>", "<unk>", "[CLS]", "[SEP]")
MOST_TOKENS = 128


def train_text(
    folder: Path,
    *,
    steps: int,
    seed: int,
    command: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Write `tokenizer`, `text_encoder` (T5), `tokenizer_bert`, `text_encoder_bert` in a folder.

    Args:
        command: the command line, kept in `training.json`.
        progress: called with (step, loss) after every hundredth step.
    Returns:
        The share of captions whose digit and direction both encoders tell, 0 to 1.
    """
    from transformers import BertConfig, BertModel, T5Config, T5EncoderModel

    started = time.monotonic()
    torch.manual_seed(seed)
    size = len(_vocabulary())
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=size,
            d_model=WIDTH,
            d_kv=8,
            d_ff=2 * WIDTH,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    bert = BertModel(
        BertConfig(
            vocab_size=size,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=MOST_TOKENS,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=0,
        ),
        add_pooling_layer=False,
    )
    accuracy = 1.0
    for name, model, template in (("", t5, "$A </s>"), ("_bert", bert, "[CLS] $A [SEP]")):
        tokenizer = words_tokenizer(template, most=MOST_TOKENS)
        accuracy = min(accuracy, _fit(model, tokenizer, steps, progress))
        with quiet():
            tokenizer.save_pretrained(folder / f"tokenizer{name}")
            model.half().save_pretrained(folder / f"text_encoder{name}")
    record = {
        "command": command,
        "seed": seed,
        "steps": steps,
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started, 1),
        "accuracy": accuracy,
    }
    write_whole(folder / "training.json", json.dumps(record).encode() + b"\n")
    return accuracy


def _vocabulary() -> list[str]:
    """Special tokens, then all words of all captions."""
    words = {word for caption in captions.VIDEO + captions.IMAGE for word in caption.split()}
    return [*SPECIAL, *sorted(words)]


def words_tokenizer(template: str, *, most: int) -> "PreTrainedTokenizerFast":
    """A tokenizer of the captions' words, in lower case.

    Args:
        template: which special tokens are around them. most: tokens, these included.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(_vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(token, ids[token]) for token in SPECIAL if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=most,
    )


def _fit(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerFast",
    steps: int,
    progress: Callable[[int, float], None] | None,
) -> float:
    texts = list(dict.fromkeys(captions.VIDEO + captions.IMAGE))
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    kept = tokens.attention_mask.bool()  # [N, L]
    directions = [None, *captions.DIRECTIONS.values()]
    asked = [(captions.digit(text), directions.index(captions.direction(text))) for text in texts]
    target = torch.tensor(asked)[:, None].expand(-1, kept.shape[1], -1)[kept]  # [tokens, 2]
    digits, motions = nn.Linear(WIDTH, 10), nn.Linear(WIDTH, len(directions))
    parts = nn.ModuleList([model, digits, motions])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=5e-3)
    for step in range(steps):
        states = model(**_inputs(tokens))[0][kept]  # [tokens, WIDTH]
        guesses = digits(states), motions(states)
        loss = F.cross_entropy(guesses[0], target[:, 0]) + F.cross_entropy(guesses[1], target[:, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress and (step + 1) % 100 == 0:
            progress(step + 1, float(loss.detach()))
    right = [guess.argmax(1) == target[:, i] for i, guess in enumerate(guesses)]
    return float((right[0] & right[1]).float().mean())


def _inputs(tokens: "BatchEncoding") -> dict[str, torch.Tensor]:
    return {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
