"""Precision: torch's flags while something is computed, and after it."""

import subprocess
import sys

import pytest
import torch
from torch import backends

from skipdit_cli.precision import PRECISIONS, dtype_of, products

READ = {
    "matmul": lambda: backends.cuda.matmul.allow_tf32,
    "cudnn": lambda: backends.cudnn.allow_tf32,
    "float32_matmul_precision": torch.get_float32_matmul_precision,
    "finer matmul": lambda: backends.cuda.matmul.fp32_precision,
    "finer conv": lambda: backends.cudnn.conv.fp32_precision,
    "finer rnn": lambda: backends.cudnn.rnn.fp32_precision,
    "of a processor": lambda: backends.mkldnn.matmul.fp32_precision,
}


def flags():
    return {name: read() for name, read in READ.items()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tf32_is_on_in_tf32_alone_by_every_name_of_the_flag(precision):
    on = precision == "tf32"
    with products(precision):
        found = flags()
    assert found["matmul"] is found["cudnn"] is on
    assert found["float32_matmul_precision"] == ("high" if on else "highest")
    assert {found[name] for name in ("finer matmul", "finer conv", "finer rnn")} == {
        "tf32" if on else "ieee"
    }


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("before", ["default", "medium", "high", "highest", "no cudnn"])
def test_flags_are_put_back(before, precision):
    with products("float32"):  # which puts back what this test sets
        if before == "no cudnn":
            backends.cudnn.allow_tf32 = False
        elif before != "default":
            torch.set_float32_matmul_precision(before)
        found = flags()
        with pytest.raises(KeyError), products(precision), products("tf32"):
            raise KeyError
        assert flags() == found


def test_flags_of_a_process_that_has_set_none():
    code = """if True:
        from torch import backends
        from skipdit_cli.precision import products
        read = lambda: [
            getattr(flag, "allow_tf32", None) for flag in (backends.cuda.matmul, backends.cudnn)
        ] + [flag.fp32_precision for flag in (backends.cuda.matmul, backends.cudnn.conv, backends)]
        before = read()
        with products("float32"):
            strict = read()
        print(before == read(), strict[:2], before[1])
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True [False, False] True\n"  # torch's own: cuDNN in TF32


def test_finer_flags_above_the_others_do_not_leak_in():
    with products("float32"):
        before = backends.fp32_precision
        try:
            backends.fp32_precision = "tf32"
            backends.cudnn.conv.fp32_precision = backends.cudnn.rnn.fp32_precision = "none"
            with products("float32"):
                assert flags()["finer conv"] == "ieee"
                assert flags()["cudnn"] is False
            assert backends.cudnn.conv.fp32_precision == "tf32"
        finally:
            backends.fp32_precision = before


def test_weights_of_tf32_are_float32():
    assert [dtype_of(each) for each in PRECISIONS] == ["float32", "float32", "float16", "bfloat16"]
    assert all(isinstance(getattr(torch, dtype_of(each)), torch.dtype) for each in PRECISIONS)
