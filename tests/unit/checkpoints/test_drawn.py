"""Random weights: the same bits everywhere, of the real sizes, and all of them matter."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from skipdit_cli.checkpoints import catalog, drawn, local, networks
from skipdit_cli.checkpoints.card import RANDOM, Component
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.generate import encoders

RELEASED = [card for card in catalog.CARDS.values() if not card.embedded]
EMBEDDED = [card for card in catalog.CARDS.values() if card.embedded]
PARTS = {
    part: (drawn.card(card), key)
    for card in RELEASED
    for key, part in card.components.items()
    if not key.startswith("tokenizer")
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.linear = nn.Linear(300, 200)
        self.wo = nn.Linear(200, 5)
        nn.init.zeros_(self.wo.weight)
        self.same = self.linear
        self.register_buffer("steps", torch.arange(3) / 2, persistent=False)
        self.register_buffer("places", torch.arange(3))
        self.register_buffer("none", None)


def net(**how):
    return drawn.fill(drawn.empty(Net), **how)


def test_the_first_numbers_by_hand():
    """PCG64 of the name's hash, 16 bits a number, scaled to the variance 1 / inputs."""
    value = net().linear.weight
    seed = int(hashlib.sha256(b"linear.weight").hexdigest()[:32], 16)
    first = int(np.random.PCG64(seed).random_raw())
    raw = [(first >> shift & 0xFFFF) for shift in (0, 16, 32, 48)]
    signed = [number - 2**16 if number >= 2**15 else number for number in raw]
    assert value[0, :4].tolist() == pytest.approx([n / 2**15 * (3 / 300) ** 0.5 for n in signed])


def test_the_numbers_are_spread_as_they_should_be():
    model = net()
    assert float(model.linear.weight.std()) == pytest.approx(300**-0.5, rel=0.01)
    assert abs(float(model.linear.weight.mean())) < 0.001
    assert float(model.wo.weight.std()) == pytest.approx(200**-0.5, rel=0.1)  # it was all zeros
    assert float(model.linear.bias.std()) == pytest.approx(0.02, rel=0.2)
    assert model.norm.weight.tolist() == pytest.approx([1] * 3, abs=0.04)
    assert model.norm.bias.tolist() == pytest.approx([0] * 3, abs=0.04)
    assert len(model.linear.weight.unique()) > 20_000
    assert not model.training
    assert not any(value.requires_grad for value in model.parameters())


def test_they_depend_on_their_names_and_on_nothing_else(monkeypatch):
    one = net().state_dict()
    monkeypatch.setattr(drawn, "CHUNK", 1024)
    torch.manual_seed(7)
    other = net().state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    half = net(dtype="float16").state_dict()
    assert torch.equal(half["linear.weight"], one["linear.weight"].half())


def test_buffers_are_those_of_the_constructor_and_shared_modules_stay_shared():
    model = net(dtype="bfloat16")
    assert model.same.weight is model.linear.weight
    assert model.steps.tolist() == [0, 0.5, 1]
    assert (model.steps.dtype, model.places.dtype) == (torch.bfloat16, torch.int64)
    assert list(model.state_dict()) == list(Net().state_dict())


def test_what_the_real_ones_keep_in_float32_is_kept():
    model = net(dtype="float16", kept=("wo",))
    assert model.wo.weight.dtype == model.wo.bias.dtype == torch.float32
    assert model.linear.weight.dtype == model.norm.bias.dtype == torch.float16
    numbers = 300 * 200 + 200 + 3 + 3
    assert drawn.size(drawn.empty(Net), "float16", ("wo",)) == 2 * numbers + 4 * (200 * 5 + 5)


def test_a_constructor_that_fails_leaves_torch_as_it_was():
    register = nn.Module.register_parameter
    with pytest.raises(ZeroDivisionError):
        drawn.empty(lambda: 1 / 0)
    assert nn.Module.register_parameter is register
    assert not nn.Linear(1, 1).weight.is_meta


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.repository}/{part.folder}")
def test_autoencoders_and_text_encoders_have_the_size_of_the_released_ones(part):
    """The downloads are float32, whose bytes the hub says: no weight is missing or too many."""
    import diffusers

    card, key = PARTS[part]
    folder = local.component(card, key)
    if key == "vae":
        config = json.loads((folder / "config.json").read_text())
        kind = getattr(diffusers, config["_class_name"])
        model = drawn.empty(lambda: kind.from_config(kind.load_config(folder)))
        assert model.config.scaling_factor == config["scaling_factor"]
    else:
        model = encoders.blank(folder)
    assert drawn.size(model, "float32") == pytest.approx(part.size, rel=0.005)
    assert all(value.is_meta for value in model.parameters())


def test_the_text_encoders_give_what_the_denoisers_take():
    for name in ("latte", "hunyuan-dit"):
        card = drawn.card(catalog.card(name))
        config = networks.meta(card).config
        widths = {
            key: encoders.kind(local.component(card, key))[0].hidden_size
            for key in card.components
            if key.startswith("text_encoder")
        }
        if name == "latte":
            assert widths == {"text_encoder": config.caption_channels}
        else:
            assert widths == {
                "text_encoder": config.cross_attention_dim,
                "text_encoder_2": config.cross_attention_dim_t5,
            }


def test_a_text_encoder_has_one_table_of_words():
    config = transformers.T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, vocab_size=9)
    model = drawn.fill(drawn.empty(lambda: transformers.T5EncoderModel(config)))
    assert model.shared.weight is model.encoder.embed_tokens.weight
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_a_denoiser_is_built_with_its_own_buffers_and_no_weight_at_zero(card):
    model, fresh = networks.load(drawn.card(card)), networks.build(card, device="cpu")
    buffers = dict(model.named_buffers())
    assert buffers.keys() == dict(fresh.named_buffers()).keys()
    assert all(torch.equal(value, buffers[name]) for name, value in fresh.named_buffers())
    assert model.state_dict().keys() == fresh.state_dict().keys()
    assert all(value.any() for value in model.parameters())


def test_a_card_of_random_weights():
    card = drawn.card(catalog.card("hunyuan-dit"))
    assert list(card.components) == ["vae", "text_encoder", "text_encoder_2"]
    assert local.require(card) is None
    assert local.absent_components(card) == []
    assert (local.locate(card), local.fingerprint(card)) == (None, RANDOM)
    assert card != catalog.card("hunyuan-dit")
    own = drawn.card(catalog.card("painted-digits"))
    assert own.components == catalog.card("painted-digits").components  # they ship
    assert local.fingerprint(own) == RANDOM


def test_a_part_whose_configuration_is_not_known_is_asked_for():
    part = Component("someone/model", "vae", size=1_000_000)
    card = drawn.card(replace(catalog.card("dit-xl-2"), components={"vae": part}))
    with pytest.raises(MissingAssetError, match=r"the vae of dit-xl-2 is not here; run `skipdit"):
        local.require(card)


def test_half_precision_stays_finite_and_of_the_size_of_noise():
    for card in EMBEDDED[1::2]:
        for dtype in ("float16", "bfloat16"):
            model = networks.load(drawn.card(card), dtype=dtype)
            given = model.inputs(1)
            generator = torch.Generator().manual_seed(0)
            for key, value in given.items():
                if value.is_floating_point():
                    given[key] = (torch.randn(value.shape, generator=generator) * 9).to(
                        getattr(torch, dtype)
                    )
            with torch.no_grad():
                output = model(**given, return_dict=False)[0]
            assert torch.isfinite(output).all(), (card.name, dtype)
            assert 0.1 < float(output.float().std()) < 10, (card.name, dtype)
