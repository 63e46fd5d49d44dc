"""The HTML page in a browser: its script runs without errors and builds what it promises.

Without Chromium on this machine the tests are skipped; what the page holds is tested elsewhere.
"""

import re
import shutil
import subprocess

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def page(skipdit, tmp_path_factory):
    """The page of a small sweep of clips, and what Chromium makes of it."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    root = tmp_path_factory.mktemp("page")
    recipe = root / "clips.yaml"
    recipe.write_text(RECIPE)
    given = f"cache-sweep --recipe {recipe} --scale tiny --repeats 0 --results {root}"
    skipdit(given).ok()
    path = root / "tiny" / "clips.html"
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={root / 'profile'}",
        "--virtual-time-budget=3000",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, done.stderr


RECIPE = """
title: Two clips
scales:
  tiny: &scale
    groups: {digits: moving-digits-skip}
    settings: {num_samples: 2, batch_size: 2, sampler: ddim, steps: "4"}
    columns:
      - {label: PSNR, metric: psnr, group: digits, unit: dB, better: higher}
  paper: *scale
rows:
  - {id: none, label: Uncached, model: "{model}"}
  - {id: cached, label: Skip-Cache n=2, model: "{model}", cache: "skip-cache(n=2,window=1000-0)"}
"""


def test_no_errors_on_the_console(page):
    _, log = page
    said = [line for line in log.splitlines() if "CONSOLE" in line]
    assert said == []


def test_the_script_has_built_the_gallery(page):
    dom, _ = page
    shown = re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)
    assert len(re.findall(r"<video[^>]*src=\"(?:data|blob):", shown)) == 2
    assert "Skip-Cache n=2" in shown
    assert "<svg" in shown
