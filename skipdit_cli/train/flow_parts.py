"""Make the pipeline around `flow-digits`: tokenizers, text encoders, autoencoder, scheduler.

Its text encoders have drawn weights that are never trained: captions are few words, which a
network tells apart however it is drawn. Its autoencoder learns to give digits back. Its transformer
is drawn too, and is what `skipdit train --model flow-digits` trains.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skipdit_cli.generate.text import quiet
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.train import data
from skipdit_cli.train.pipelines import coloured
from skipdit_cli.train.text import words_tokenizer

RECORD = "parts.json"  # how the parts were made; training.json says it of the transformer
CLIP_WIDTH, TEXT_WIDTH, CLIP_TOKENS, T5_TOKENS = 16, 32, 8, 512
WIDTH, HEADS, LAYERS = 64, 4, 6  # of the transformer
BATCH, TESTED = 64, 512  # images of a step, and those that say how good the autoencoder is
RATE, KL_WEIGHT = 4e-3, 1e-4


def train_parts(
    folder: Path,
    *,
    steps: int,
    seed: int,
    command: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Write a whole pipeline of the class of Stable Diffusion 3 into a folder.

    Args:
        steps: of the autoencoder.
        command: the command line, kept in `parts.json`.
        progress: called with (step, loss) after every hundredth step.
    Returns:
        PSNR of what the autoencoder gives back of fresh digits, in dB.
    """
    import diffusers

    started = time.monotonic()
    torch.manual_seed(seed)
    vae, psnr = _autoencoder(steps, seed, progress)
    tokenizer, text_encoder = _clip()
    tokenizer_2, text_encoder_2 = _clip()
    tokenizer_3, text_encoder_3 = _t5()
    pipe: Any = diffusers.StableDiffusion3Pipeline(
        transformer=_transformer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )
    with quiet():
        pipe.save_pretrained(folder)
    record = {
        "command": command,
        "seed": seed,
        "steps": steps,
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started, 1),
        "psnr": psnr,
    }
    write_whole(folder / RECORD, json.dumps(record).encode() + b"\n")
    return psnr


def _transformer() -> Any:
    """Latents of 8x8 in patches of 2x2: 16 tokens beside those of the text."""
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=data.SIDE // 2,
        in_channels=4,
        out_channels=4,
        num_layers=LAYERS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=data.SIDE // 4,
        qk_norm="rms_norm",
    )


def _clip() -> tuple[Any, Any]:
    """A tokenizer of words, and a text model of CLIP for it."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tokenizer = words_tokenizer("[CLS] $A [SEP]", most=CLIP_TOKENS)
    ids = tokenizer.get_vocab()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=CLIP_WIDTH,
        projection_dim=CLIP_WIDTH,
        intermediate_size=2 * CLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=ids["[CLS]"],
        eos_token_id=ids["[SEP]"],
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, CLIPTextModelWithProjection(config).eval()


def _t5() -> tuple[Any, Any]:
    """A tokenizer of words, and an encoder of T5 for it."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = words_tokenizer("$A </s>", most=T5_TOKENS)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=8,
        d_ff=2 * TEXT_WIDTH,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.get_vocab()["</s>"],
    )
    return tokenizer, T5EncoderModel(config).eval()


def _autoencoder(
    steps: int, seed: int, progress: Callable[[int, float], None] | None
) -> tuple[Any, float]:
    """An autoencoder whose latents have mean 0 and variance 1 as the pipeline scales them."""
    from diffusers import AutoencoderKL

    generator = Generator().manual_seed(seed)
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        norm_num_groups=4,
        sample_size=data.SIDE,
        mid_block_add_attention=False,
    )
    optimizer = torch.optim.AdamW(vae.parameters(), lr=RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        images = _images(BATCH, generator)
        posterior = vae.encode(images).latent_dist
        restored = vae.decode(posterior.sample(generator)).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = F.mse_loss(restored, images) + KL_WEIGHT * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress and (step + 1) % 100 == 0:
            progress(step + 1, float(loss.detach()))
    vae.requires_grad_(False).eval()
    images = _images(TESTED, generator)
    latents = vae.encode(images).latent_dist.mode()
    error = F.mse_loss(vae.decode(latents).sample.clamp(-1, 1), images)
    vae.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=1 / float(latents.std())
    )
    return vae, 10 * float((4 / error).log10())  # pixels have a range of 2


def _images(count: int, generator: Generator) -> Tensor:
    return coloured(data.digits(count, generator)[0])
