"""Tokenizers of single characters, and small text encoders for them."""

import string
from itertools import pairwise
from typing import Any

import transformers
from tokenizers import pre_tokenizers
from tokenizers.processors import TemplateProcessing

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


def llama(template: str, count: int) -> tuple[Any, Any]:
    """A tokenizer of Llama, for which the words before a prompt are `count` tokens, and a model."""
    special = ("<unk>", "<s>", "</s>", "<pad>", "▁")
    vocab = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    tokenizer = transformers.LlamaTokenizerFast(vocab, [], pad_token="<pad>", padding_side="right")
    tokenizer.add_tokens(pieces(template.partition("{}")[0], count))
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,  # the pipeline takes what the third from the end is given
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, drawn(transformers.LlamaModel, config)


def qwen(template: str, count: int) -> tuple[Any, Any]:
    """A tokenizer of Qwen, for which the words before a prompt are `count` tokens, and a model."""
    tokenizer = _letters()
    tokenizer.add_tokens(pieces(template.partition("{}")[0], count))
    return tokenizer, _qwen("Qwen2_5_VL", tokenizer, out_hidden_size=WIDTH)


def qwen2() -> tuple[Any, Any]:
    """A tokenizer, with a template of chats, and a model of Qwen 2."""
    tokenizer = _letters()
    tokenizer.chat_template = (
        "{% for each in messages %}{{ each['content'][0]['text'] }}{% endfor %}"
    )
    return tokenizer, _qwen("Qwen2VL", tokenizer, embed_dim=WIDTH)


def _letters() -> Any:
    """A tokenizer of Qwen, for which each byte is a token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return transformers.Qwen2Tokenizer({token: i for i, token in enumerate(letters)}, [])


def _qwen(kind: str, tokenizer: Any, **vision: int) -> Any:
    layers = {"hidden_size": WIDTH, "intermediate_size": 32}
    config = getattr(transformers, f"{kind}Config")(
        text_config={
            **layers,
            "vocab_size": len(tokenizer),
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        vision_config={**layers, "depth": 1, "num_heads": 2, **vision},
    )
    return drawn(getattr(transformers, f"{kind}ForConditionalGeneration"), config)


def gemma() -> tuple[Any, Any]:
    """A tokenizer and a model of Gemma 2."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "▁")
    vocab = {token: i for i, token in enumerate([*special, *CHARACTERS])}
    tokenizer = transformers.GemmaTokenizer(vocab, [])
    config = transformers.Gemma2Config(**_causal(tokenizer), head_dim=16)
    return tokenizer, drawn(transformers.Gemma2Model, config)


def qwen3() -> tuple[Any, Any]:
    """A tokenizer, with a template of chats, and a model of Qwen 3."""
    tokenizer = _letters()
    tokenizer.chat_template = "{% for each in messages %}{{ each['content'] }}{% endfor %}"
    config = transformers.Qwen3Config(**_causal(tokenizer), head_dim=16)
    return tokenizer, drawn(transformers.Qwen3Model, config)


def glm() -> tuple[Any, Any]:
    """A tokenizer that puts a token before every text, and a model of GLM."""
    tokenizer = _letters()
    tokenizer.add_special_tokens({"bos_token": "<sop>"})
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<sop> $A", special_tokens=[("<sop>", tokenizer.bos_token_id)]
    )
    config = transformers.GlmConfig(**_causal(tokenizer), head_dim=16)
    return tokenizer, drawn(transformers.GlmForCausalLM, config)


def _causal(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "pad_token_id": tokenizer.pad_token_id,
    }


def bert() -> tuple[Any, Any]:
    """A tokenizer and a model of BERT."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokens = [*special, *CHARACTERS, *("##" + character for character in CHARACTERS)]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = transformers.BertTokenizer(vocab, model_max_length=77)
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
    )
    return tokenizer, drawn(transformers.BertModel, config)


def pieces(text: str, count: int) -> list[str]:
    """The text cut into that many tokens, as many as a pipeline drops of its template."""
    cuts = [len(text) * i // count for i in range(count + 1)]
    return [text[start:end] for start, end in pairwise(cuts)]
