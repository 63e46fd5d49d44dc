"""Tokenizers of single characters, and small text encoders for them."""

import string
from typing import Any

import transformers
from tokenizers import pre_tokenizers

from .draw import drawn

WIDTH = 32  # of every text encoder
CHARACTERS = string.digits + string.ascii_letters + string.punctuation


def t5(encoder: str = "T5EncoderModel") -> tuple[Any, Any]:
    """A tokenizer of T5 and the encoder of that class of transformers."""
    special = ("<pad>", "</s>", "<unk>", "▁")
    vocab = [*((token, 0.0) for token in special), *((token, -1.0) for token in CHARACTERS)]
    tokenizer = transformers.T5Tokenizer(vocab, extra_ids=0, model_max_length=512)
    kind = getattr(transformers, encoder)
    config = kind.config_class(
        vocab_size=len(vocab),
        d_model=WIDTH,
        d_kv=16,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
    )
    return tokenizer, drawn(kind, config)


def clip(encoder: str = "CLIPTextModel", width: int = WIDTH) -> tuple[Any, Any]:
    """A tokenizer of CLIP and the text model of that class of transformers."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [letter + "</w>" for letter in letters]
    special = ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate([*letters, *ends, *special])}
    tokenizer = transformers.CLIPTokenizer(vocab, [], model_max_length=77)
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, drawn(getattr(transformers, encoder), config)
