"""How fast a machine is: measured first, and by what is alike; else assumed; else nobody knows."""

import pytest

from skipdit_cli.errors import SkipditWarning, UsageError
from skipdit_cli.plan import gpus, rates
from skipdit_cli.plan.rates import CPU, Measured
from skipdit_cli.precision import PRECISIONS


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    monkeypatch.setattr(rates, "gpu_here", lambda: None)
    return tmp_path


def test_the_rates_that_are_assumed():
    """Until they are measured: facts that the hours of the documentation stand on."""
    a100, h100 = gpus.GPUS["a100"].rates, gpus.GPUS["h100"].rates
    assert (a100["float32"], a100["tf32"], a100["float16"]) == (16, 70, 120)
    assert (h100["float32"], h100["tf32"], h100["float16"]) == (48, 220, 330)
    assert gpus.GPUS["h200"].rates == h100
    for gpu in gpus.GPUS.values():
        assert set(gpu.rates) <= set(PRECISIONS)
        assert gpu.rates.get("bfloat16", gpu.rates["float16"]) == gpu.rates["float16"]
        assert gpu.rates["float32"] <= gpu.rates["tf32"]
        assert gpu.source.startswith("assumed")
        assert gpu.memory >= 24e9


def test_others_have_the_share_of_their_peak_that_h100_has():
    assert gpus.GPUS["l40s"].rates["float16"] == pytest.approx(362 * 330 / 989, rel=0.02)
    assert gpus.GPUS["v100"].rates["float32"] == pytest.approx(15.7 * 48 / 67, rel=0.03)
    assert "bfloat16" not in gpus.GPUS["v100"].rates


@pytest.mark.parametrize(
    ("device", "gpu"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA L4", None),
        ("AMD EPYC 7763 64-Core Processor", None),
    ],
)
def test_a_device_is_known_by_its_name(device, gpu):
    assert gpus.of_device(device) == gpu


def test_names_of_people():
    assert gpus.known("H100") == gpus.known("h100") == "h100"
    assert gpus.known("L40 S") == gpus.known("l-40s") == "l40s"
    with pytest.raises(UsageError, match=r"^--gpu: unknown GPU 'h10'; did you mean 'h100'\?$"):
        rates.machine("h10")


def test_nobody_knows_how_fast_a_processor_is_until_it_is_measured():
    for machine in (rates.machine(), rates.machine("cpu")):
        assert (machine.gpu, machine.memory) == (CPU, None)
        assert machine.rate("float32", work=1e9) is None
    rates.keep(machine.label, [Measured("float32", "digits", 1e8, 0.04)])
    known = rates.machine().rate("float32", model="digits", work=1e8)
    assert (known.tflops, known.source) == (0.04, "measured on digits")
    assert rates.machine().rate("tf32", work=1e8).tflops == 0.04  # only GPUs have TF32
    assert rates.machine().rate("float16", work=1e8) is None


def test_what_is_measured_comes_before_what_is_assumed():
    assert rates.machine("h100").rate("float16", work=1e12).tflops == 330
    path = rates.keep("NVIDIA H100 80GB HBM3", [Measured("float16", "dit-xl-2", 1e12, 400.0)])
    assert rates.machine("h100").rate("float16", work=1e12).tflops == 400
    assert rates.machine("h100").rate("float32", work=1e12).tflops == 48
    assert rates.machine("a100").rate("float16", work=1e12).tflops == 120
    path.write_text(path.read_text().replace("400.0", "900.0"))
    with pytest.warns(SkipditWarning, match="it counts as absent"):
        assert rates.machine("h100").rate("float16", work=1e12).tflops == 330


def test_the_gpu_that_is_here_is_what_is_meant(monkeypatch):
    monkeypatch.setattr(rates, "gpu_here", lambda: "NVIDIA H200")
    assert rates.machine().gpu == "h200"
    monkeypatch.setattr(rates, "gpu_here", lambda: "NVIDIA Something New")
    machine = rates.machine()
    assert (machine.label, machine.gpu) == ("NVIDIA Something New", "")
    assert machine.rate("float16", work=1e12) is None
    rates.keep("NVIDIA Something New", [Measured("float16", "dit-xl-2", 1e12, 500.0)])
    assert rates.machine().rate("float16", work=1e12).tflops == 500


def test_the_same_model_comes_first_then_the_nearest_work_and_never_another_size():
    tiny, same, near = 1e8, 1e12, 3e12
    rates.keep(
        "NVIDIA A100-SXM4-80GB",
        [
            Measured("float16", "digits", tiny, 0.1),
            Measured("float16", "dit-xl-2", same, 100.0),
            Measured("float16", "taichi", near, 110.0),
        ],
    )
    machine = rates.machine("a100")
    assert machine.rate("float16", model="dit-xl-2", work=near).tflops == 100
    assert machine.rate("float16", model="latte", work=4e12).tflops == 110
    assert machine.rate("float16", model="latte", work=1.1e12).tflops == 100
    assert machine.rate("float16", model="digits", work=tiny).tflops == 0.1
    assert machine.rate("float16", model="latte", work=1e15).tflops == 120  # assumed
    assert machine.rate("float16", model="latte", work=101e8 / 1.001).tflops == 100


def test_a_new_measurement_takes_the_place_of_the_old_one():
    first = [Measured("float16", "latte", 1e12, 1.0), Measured("float32", "latte", 1e12, 2.0)]
    rates.keep("NVIDIA H200", first)
    rates.keep("NVIDIA H200", [Measured("float16", "latte", 1e12, 3.0)])
    machine = rates.machine("h200")
    assert [each.tflops for each in machine.measured] == [3, 2]
