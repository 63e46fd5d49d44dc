"""A network in parts: what each process keeps, what is trained, what comes together again."""

import subprocess
import sys

import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.train.processes import check_shard

PARTS = """
import torch
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.train import sharded
from skipdit_cli.train.processes import Processes

torch.manual_seed(0)
network = networks.load(catalog.card("digits-skip")).train()
before = {key: value.clone() for key, value in network.state_dict().items()}
inputs = network.inputs(2)
expected = network(**inputs, return_dict=False)[0].detach()
with Processes("float32", "cpu", sharded=True) as processes:
    processes.share_out(network)
    kept = sum(each.to_local().numel() for each in network.parameters())
    total = sum(each.numel() for each in network.parameters())
    assert 0.45 * total < kept < 0.6 * total, (kept, total)
    names = [name for name, _ in network.named_parameters()]
    for alone in (True, False, True):
        wanted = {name for name in names if not alone or ".skip." in name}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in wanted)
        out = network(**inputs, return_dict=False)[0]
        torch.testing.assert_close(out.detach(), expected)
        out.square().mean().backward()
        given = {name for name, each in network.named_parameters() if each.grad is not None}
        assert given == wanted, alone
        network.zero_grad(set_to_none=True)
    after = sharded.whole(network.state_dict())
    assert all(torch.equal(after[key], before[key]) for key in before)
    part = next(network.parameters())
    assert torch.equal(sharded.part_like(after[names[0]], part).to_local(), part.to_local())
"""


@pytest.mark.slow
def test_each_process_keeps_its_part(tmp_path):
    script = tmp_path / "parts.py"
    script.write_text(PARTS)
    launch = "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
    done = subprocess.run(
        [sys.executable, "-m", *launch, script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("precision", "count", "said"),
    [("float32", 1, "nobody to share"), ("float16", 2, "float16 is not trained in parts")],
)
def test_what_cannot_be_shared_out(precision, count, said):
    with pytest.raises(UsageError, match=said):
        check_shard(precision, count, sharded=True)
    check_shard(precision, count, sharded=False)
