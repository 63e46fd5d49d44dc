"""A torchvision without compiled operators can be imported; other failures are not hidden."""

import subprocess
import sys

import pytest

BROKEN = "raise RuntimeError('operator torchvision::nms does not exist')"
RUN = """
import sys
sys.path.insert(0, {folder!r})
import skipdit_cli
import torchvision
print(torchvision.__file__.startswith({folder!r}), torchvision.made)
"""


def imported(tmp_path, source):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from torchvision import _meta_registrations\nmade = True")
    (package / "_meta_registrations.py").write_text(source)
    code = RUN.format(folder=str(tmp_path))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [BROKEN, "sound = True"])
def test_missing_operators_are_passed_over(tmp_path, source):
    assert imported(tmp_path, source).stdout == "True True\n"


@pytest.mark.parametrize("source", ["raise RuntimeError('out of memory')", "import no_such"])
def test_other_errors_are_not(tmp_path, source):
    done = imported(tmp_path, source)
    assert done.returncode == 1
    assert "out of memory" in done.stderr or "no_such" in done.stderr


def test_what_needs_torchvision_can_be_imported():
    import lpips
    import torch_fidelity
    import torchmetrics.functional.multimodal
    import transformers

    assert lpips.LPIPS
    assert torch_fidelity.calculate_metrics
    assert torchmetrics.functional.multimodal.clip_score
    assert transformers.CLIPModel
