"""A batch that no memory holds is refused before anything starts, or told of when it is met."""

import errno
import weakref

import pytest
import torch

from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate import loaded, memory
from skipdit_cli.generate.footprint import LOW, footprint
from skipdit_cli.profiling import counts
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage import given


@pytest.fixture
def room(monkeypatch):
    return lambda least: monkeypatch.setattr(memory, "room_of", lambda device: least)


def run(count, batch, **settings):
    return make_run("digits", settings={"num_samples": count, "batch_size": batch, **settings})


def test_what_a_sample_takes_doubles_with_guidance():
    alone, guided = (footprint(run(1, 1, guidance=scale)).step for scale in (None, 2))
    assert 1.9 * alone < guided <= 2 * alone


def test_too_large_a_batch_is_told_with_one_that_fits(room):
    held = footprint(run(100, 100))
    room(held.peak(50))
    with pytest.raises(UsageError) as caught:
        memory.require(run(100, 100), device="cpu")
    assert str(caught.value).startswith(
        "--batch-size: 100 samples of digits without a cache at once take 0.0 GB at least"
    )
    assert str(caught.value).endswith("; take 50 or fewer")
    memory.require(run(100, 50), device="cpu")
    room(2 * held.peak(50))
    memory.require(run(100, 50), device="cpu", workers=2)
    with pytest.raises(UsageError, match=r"in each of 2 processes .* take 50 or fewer"):
        memory.require(run(200, 100), device="cpu", workers=2)
    memory.require(run(100, 100), device="cpu", workers=2)  # one batch, so one process


def test_what_may_fit_is_let_through(room):
    """By as much as the estimate was ever too high."""
    held = footprint(run(100, 100))
    steps = 100 * (held.step + held.kept)
    room(held.weights + LOW * steps + 1)
    memory.require(run(100, 100), device="cpu")
    room(held.weights + LOW * steps - 1)
    with pytest.raises(UsageError):
        memory.require(run(100, 100), device="cpu")


def test_no_batch_fits_beside_the_weights(room):
    room(footprint(run(1, 1)).weights)
    with pytest.raises(UsageError, match="no batch fits here"):
        memory.require(run(1, 1), device="cpu")


def test_the_memory_of_this_machine_is_known():
    assert 1e8 < memory.room_of("cpu") < 1e14


FORMS = [  # as they were raised on machines of other people
    torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.15 GiB"
    ),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    RuntimeError("unable to mmap 11396127829 bytes from file <a.pt>: Cannot allocate memory (12)"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
]
SEEMS = [  # cuDNN, which says so where it finds no room to work in, but not then alone
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]
OTHERS = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    RuntimeError("shape '[2, 3]' is invalid for input of size 5"),
    ValueError("a batch that is out of memory's way"),
]


def name(error):
    return str(error)[:40] or type(error).__name__


@pytest.mark.parametrize("error", FORMS, ids=name)
def test_every_form_of_a_lack_of_memory_is_one_line(error):
    with pytest.raises(SkipditError) as caught, memory.memory_checked(8):
        raise error
    assert str(caught.value) == "out of memory at batch size 8; take a smaller --batch-size"
    scoring = pytest.raises(SkipditError, match=r"^out of memory while scoring; .* 3fa2 --device")
    with scoring, memory.memory_checked(None, scored="3fa2"):
        raise error


@pytest.mark.parametrize("error", SEEMS, ids=name)
def test_what_seems_a_lack_of_memory_is_told_with_its_words(error):
    with pytest.raises(SkipditError) as caught, memory.memory_checked(8):
        raise error
    assert str(caught.value).startswith(f"out of memory at batch size 8, as it seems ({error}")


@pytest.mark.parametrize("error", OTHERS, ids=name)
def test_other_errors_are_none(error):
    with pytest.raises(type(error)) as caught, memory.memory_checked(8):
        raise error
    assert caught.value is error


def test_no_reader_of_files_takes_a_lack_of_memory_for_damage():
    for error in FORMS:
        with pytest.raises(type(error)), given.decoding("a.pt", "is truncated"):
            raise error


def test_what_filled_the_memory_is_let_go_of():
    """The run that comes next finds the room."""
    held = []

    def fill():
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    loaded.one("denoiser", 1, lambda: object())
    with pytest.raises(SkipditError, match="out of memory") as caught, memory.memory_checked(8):
        fill()
    assert caught.value.__context__ is not None  # which holds the frames
    assert held[0]() is None
    assert loaded._loaded == {}


def test_a_network_that_does_not_fit_names_what_does(room):
    sizes = {"float16": 11_600_000_000, "float32": 19_000_000_000, "bfloat16": 9_500_000_000}
    room(12e9)
    memory.require_room("the text_encoder of latte", sizes, precision="float16", device="cpu")
    with pytest.raises(UsageError) as caught:
        memory.require_room("the text_encoder of latte", sizes, precision="float32", device="cpu")
    assert str(caught.value) == (
        "the text_encoder of latte takes 19.0 GB in float32 and there are 12.0 GB; "
        "take float16 (11.6 GB) or bfloat16 (9.5 GB)"
    )
    room(1e9)
    with pytest.raises(UsageError, match="take a machine with more memory"):
        memory.require_room("the text_encoder of latte", sizes, precision="float16", device="cpu")


@pytest.fixture(scope="module")
def two_experts(tmp_path_factory):
    from tests.tiny_pipelines import make

    folder = make("wan22", tmp_path_factory.mktemp("pipelines") / "wan22")

    def made(batch=1, **settings):
        call = {"height": 32, "width": 48, "num_frames": 5, "max_sequence_length": 32}
        given = {"steps": "4", "call": call, "num_samples": batch, "batch_size": batch}
        return make_run(str(folder), settings={**given, "prompts": ("a cat",), **settings})

    return made


def test_the_weights_of_a_pipeline_are_those_of_its_parts(two_experts):
    """As they are loaded: all of them, the largest alone, or a block of it."""
    from skipdit_cli.generate import pipelines

    pipe = pipelines.load(two_experts().card)
    modules = {k: each for k, each in pipe.components.items() if isinstance(each, torch.nn.Module)}
    size = {name: sum(each.numel() for each in m.parameters()) for name, m in modules.items()}
    held, half = footprint(two_experts()), footprint(two_experts(precision="bfloat16"))
    assert held.weights == 4 * (size["transformer"] + size["transformer_2"])
    assert (held.autoencoder, held.encoder) == (4 * size["vae"], 4 * size["text_encoder"])
    assert held.there[""].denoising == 4 * sum(size.values()) == 2 * half.there[""].decoding
    alone = held.there["model"]
    assert alone.encoding == 4 * size["text_encoder"]
    assert alone.denoising == 4 * max(size["transformer"], size["transformer_2"])
    assert held.step == 2 * half.step == 4 * counts.sizes(two_experts().card).step  # call by call
    blocks = len(two_experts().traced.order)
    assert held.there["group"].denoising == alone.denoising // blocks > 0
    assert held.peak(1, offload="group") < held.peak(1, offload="model") < held.peak(1)


def test_a_pipeline_that_does_not_fit_is_told_what_else_does(two_experts, room):
    held = footprint(two_experts())
    room(held.least(1))
    memory.require(two_experts(), device="cuda")
    room(held.least(1) - 1)
    with pytest.raises(UsageError, match="no batch fits here, but with --offload model"):
        memory.require(two_experts(), device="cuda")
    memory.require(two_experts(), device="cuda", offload="model")
    with pytest.raises(UsageError, match=r"no batch fits here$"):
        memory.require(two_experts(), device="cpu")
    room(held.least(1, offload="model") - 1)
    with pytest.raises(UsageError, match="no batch fits here, but with --offload group"):
        memory.require(two_experts(), device="cuda")
