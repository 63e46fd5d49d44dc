"""Every network at full size on a GPU that is not there: no mix of devices or of dtypes.

torch's fake tensors have a shape, a dtype and a device, and no memory. Whole sampler loops run on
them: all released networks without a cache in every dtype, and with every cache that has a meaning
on them in one of the dtypes in turn, with guidance and without it in different ones. Which caches
these are is asked of the methods themselves. A few run in the default tier, all in the slow one.
"""

import inspect
import sys
from functools import cache, partial
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain, cycle
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from skipdit_cli import registry
from skipdit_cli.cache import NONE
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.loop import denoise
from skipdit_cli.models import ATTENTION_MASK
from skipdit_cli.precision import dtype_of
from skipdit_cli.profiling import counts
from skipdit_cli.sites import site_modules
from skipdit_cli.spec import parse_cache

_spec = spec_from_file_location("cache_settings", Path(__file__).with_name("test_caches.py"))
test_caches = module_from_spec(_spec)
_spec.loader.exec_module(test_caches)
STEPS = test_caches.STEPS
SPECS = {name: each.on or each.off for name, each in test_caches.SETTINGS.items()}
BATCH = 2
PRODUCTS = frozenset({"mm", "bmm", "addmm", "baddbmm", "linear", "matmul", "convolution"})
KEEPING = tuple(f"skipdit_cli.{room}" for room in ("models", "samplers", "caches", "generate"))
QUICK = {  # (network, dtype, cache, guided): one cache on layers, one inside of them
    ("dit-xl-2-skip", "float16", "skip-cache", True),
    ("latte-skip", "float16", "t-gate", True),
}


def released():
    """A checkpoint of every network that differs from the others in more than its weights."""
    different = {}
    for card in catalog.CARDS.values():
        if not card.embedded:
            network = card.family, card.variant, card.skip, *card.arguments.items()
            different.setdefault(network, card)
    return list(different.values())


def resolved(method, card):
    """The cache on a network; None where it says itself that it has no meaning there."""
    try:
        with unset_fake_temporarily():
            return parse_cache(SPECS[method]).resolve(counts.layout(card))
    except UsageError:
        return None


def combinations():
    for card in released():
        conditional = card.text or card.num_classes is not None
        dtypes = [*dict.fromkeys(map(dtype_of, card.precisions))]  # tf32 is float32 here
        for place, name in enumerate(registry.names("caches")):
            one, other = (dtypes[(place + i) % len(dtypes)] for i in (0, 1))
            ways = [(one, True)] * conditional + [(other, False)]
            if name == NONE:
                ways += [(dtype, conditional) for dtype in dtypes if dtype not in (one, other)]
            ways += [each[1::2] for each in QUICK if each[::2] == (card.name, name)]
            for dtype, guided in dict.fromkeys(ways):
                given = card.name, dtype, name, guided
                yield pytest.param(*given, marks=() if given in QUICK else pytest.mark.slow)


class Mode(FakeTensorMode):
    """A GPU multiplies numbers of one dtype; fake tensors of two would pass."""

    def dispatch(self, operation, types, args=(), kwargs=None):
        if is_product(operation):
            same_dtype(operation, *args)
        return super().dispatch(operation, types, args, kwargs)


@cache
def is_product(operation):
    words = operation._schema.name.split("::")[1].split("_")
    return not PRODUCTS.isdisjoint(words)


def same_dtype(operation, *args):
    floats = [x for x in args if isinstance(x, torch.Tensor) and x.is_floating_point()]
    dtypes = {tensor.dtype for tensor in floats}
    assert len(dtypes) < 2, f"{operation} of {' and '.join(sorted(map(str, dtypes)))}"


def attention(query, key, value, *masks, **named):
    """A GPU has one kernel for it, where fake tensors take many steps."""
    same_dtype("attention", query, key, value)
    assert query.device == key.device == value.device
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def moved(tensor, *given, **named):
    """`Tensor.to`, which here may not ask for a GPU."""
    device, dtype, *_ = torch._C._nn._parse_to(*given, **named)
    device, dtype = device or tensor.device, dtype or tensor.dtype
    if (tensor.device.type, tensor.dtype) == (device.type, dtype):  # there is one of each type
        return tensor
    return torch.ops.aten._to_copy.default(tensor, device=device, dtype=dtype)


def part(tensor, index):
    """`Tensor.__getitem__`, likewise."""
    index = index if isinstance(index, tuple) else (index,)
    taken = sum(each is not None and each is not Ellipsis for each in index)
    whole = [slice(None)] * (tensor.dim() - taken)
    full = [every for each in index for every in (whole if each is Ellipsis else [each])]
    axis = 0
    for each in full:
        if isinstance(each, int):
            tensor = tensor.select(axis, each)
            continue
        if each is None:
            tensor = tensor.unsqueeze(axis)
        elif isinstance(each, slice):
            given = each.start, each.stop, each.step or 1
            tensor = torch.ops.aten.slice.Tensor(tensor, axis, *given)
        else:
            tensor = torch.ops.aten.index.Tensor(tensor, [None] * axis + [each])
        axis += 1
    return tensor


def frequencies(plain, count, *, device, dtype):
    """`torch.fft.fftfreq`, likewise."""
    return moved(plain(count, dtype=dtype), device)


def forget():
    """Empty what functions keep: a fake tensor is of no use to others, nor a real one here."""
    for name, module in list(sys.modules.items()):
        if name.startswith(KEEPING):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


MODE = Mode()


@pytest.fixture
def gpu(monkeypatch):
    """Fake tensors that live on a GPU; what a method asks of their values is answered in turn."""
    forget()
    answers = cycle([0.0, 0.0, 1.0])
    for name, function in {
        "to": moved,
        "float": lambda tensor: moved(tensor, torch.float32),
        "contiguous": lambda tensor: tensor.clone(memory_format=torch.contiguous_format),
        "cpu": lambda tensor: moved(tensor, "cpu"),
        "__getitem__": part,
        "__invert__": lambda tensor: tensor.bitwise_not(),
        "item": lambda tensor: next(answers),
        "__bool__": lambda tensor: bool(next(answers)),
        "__float__": lambda tensor: next(answers),
    }.items():
        monkeypatch.setattr(FakeTensor, name, function)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    monkeypatch.setattr(torch.fft, "fftfreq", partial(frequencies, torch.fft.fftfreq))
    with MODE:
        yield
    forget()


@cache
def loaded(name, dtype):
    """(network of a checkpoint on the GPU, as if its file were read, which is in float32; {})."""
    card = catalog.card(name)
    with unset_fake_temporarily():
        real = {key: (v.shape, v.dtype) for key, v in networks.meta(card).state_dict().items()}
    state = {key: torch.empty(shape, dtype=kind) for key, (shape, kind) in real.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "require", lambda card: "a file")
        patch.setattr(networks, "read_state", lambda path: state)
        return networks.load(card, device="cuda", dtype=dtype), {}


def described(value):
    """What a fake result depends on: of tensors not their values, for they have none."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, dict):
        return tuple((key, described(each)) for key, each in value.items())
    return tuple(map(described, value)) if isinstance(value, list | tuple) else value


def outside(module, hooked):
    """The largest modules in whose `forward` no cache acts."""
    if isinstance(module, torch.nn.ModuleList) or hooked & {*module.modules()} - {module}:
        for child in module.children():
            yield from outside(child, hooked)
    else:
        yield module


@cache
def signature(module):
    held = [*module.named_parameters(), *module.named_buffers()]
    return hash((type(module), str(module), described(held)))


def once(module, known):
    """The `forward` of a module, run once for all modules and arguments of one description."""
    forward, own = module.forward, signature(module)

    def call(*args, **kwargs):
        key = own, described(args), described(kwargs)
        if key not in known:
            known[key] = forward(*args, **kwargs)
        return known[key]

    return call


@pytest.mark.parametrize(("name", "dtype", "method", "guided"), list(combinations()))
def test_a_loop_stays_on_its_device_and_in_its_dtype(gpu, monkeypatch, name, dtype, method, guided):
    card = catalog.card(name)
    cached = resolved(method, card)
    if cached is None:
        return
    model, known = loaded(name, dtype)
    sites = site_modules(model)
    hooked = {sites[site] for site in cached.hooked}
    for module in chain.from_iterable(outside(child, hooked) for child in model.children()):
        monkeypatch.setattr(module, "forward", once(module, known))
    sampler = registry.load("samplers", card.sampling.sampler)
    latents, saved = set(), []

    def on_step(session, x):
        latents.add((x.device.type, x.dtype))
        fewer = session.halves[session.step] != session.halves[0]
        saved.append(fewer or bool(session.reused[session.step]))

    given = model.inputs(BATCH, device="cuda")
    x = torch.zeros_like(given.pop("hidden_states"), dtype=torch.float32)
    del given["timestep"]
    if ATTENTION_MASK in inspect.signature(model.forward).parameters:
        length = given["encoder_hidden_states"].shape[1]
        given[ATTENTION_MASK] = torch.ones(BATCH, length, dtype=torch.int64, device="cuda")
    monkeypatch.setattr(FakeTensor, "tolist", lambda visited: sampler.timesteps(STEPS))
    out = denoise(
        model,
        x,
        cache=cached,
        sampler=sampler,
        steps=STEPS,
        step_noise=lambda step: torch.zeros_like(x),
        conditions=given,
        null=given,
        guidance=2.0 if guided else None,
        trained=card.sampling,
        on_step=on_step,
    )
    assert (out.device.type, out.dtype, out.shape) == ("cuda", torch.float32, x.shape)
    assert latents == {("cuda", torch.float32)}
    assert {each.device.type for each in (*model.parameters(), *model.buffers())} == {"cuda"}
    assert {each.dtype for each in model.parameters()} == {getattr(torch, dtype)}
    assert any(saved) == (method != "none")  # so that what is kept was used


@pytest.mark.slow
@pytest.mark.parametrize("method", registry.names("caches"))
def test_every_cache_runs_on_a_released_network(method):
    assert any(resolved(method, card) for card in released())
