"""One's own data, small: images of digits' size in class folders, clips, and captions."""

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.storage import codec


@pytest.fixture
def images(tmp_path):
    """images(one=3, two=2): a folder of class folders with so many PNG of 20x18 pixels each."""

    def make(**classes):
        rng = np.random.default_rng(0)
        for name, count in classes.items():
            for i in range(count):
                path = tmp_path / "data" / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (20, 18), dtype=np.uint8)).save(path)
        return tmp_path / "data"

    return make


@pytest.fixture
def clips(tmp_path):
    """clips({"one/a.mkv": 30}): a folder of clips of so many frames of 20x18 pixels."""

    def make(lengths):
        rng = np.random.default_rng(1)
        for name, length in lengths.items():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            codec.write_clip(path, rng.integers(0, 256, (length, 20, 18, 3), dtype=np.uint8))
        return tmp_path / "data"

    return make
