"""`make docs`: it builds without a warning, holds every page and command, and fetches nothing."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from skipdit_cli import registry
from skipdit_cli.cli import command_line

ROOT = Path(__file__).parents[2]
LOADS = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


class Loads(HTMLParser):
    """What a browser fetches for a page by itself."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if value := dict(attrs).get(LOADS.get(tag, "")):
            self.found.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def pages(site: Path) -> dict[str, str]:
    return {
        path.relative_to(site).as_posix(): path.read_text(encoding="utf-8")
        for path in site.rglob("*.html")
    }


def test_every_page_is_there(site):
    written = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    expected = {path.with_suffix(".html").as_posix() for path in written}
    assert set(pages(site)) == expected | {
        *("index.html", "extending.html", "changelog.html", "404.html")
    }


def test_nothing_is_fetched_from_elsewhere(site):
    loads = {page: Loads(text).found for page, text in pages(site).items()}
    assert all(any(load.endswith(".js") for load in found) for found in loads.values())
    assert all(any(load.endswith(".css") for load in found) for found in loads.values())
    for page, found in loads.items():
        for load in found:
            assert not re.match(r"\w+:|//", load), (page, load)
            if not load.startswith("/"):  # 404.html has absolute ones
                assert (site / page).parent.joinpath(load).is_file(), (page, load)
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert len(styles) >= 3
    for style in styles:
        assert re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^"')]*""", style) == []


def test_every_command_and_caching_method_is_told(site):
    told = pages(site)
    headings = re.findall(r'<h2 id="skipdit-([a-z-]+)"', told["commands.html"])
    commands = dict(command_line().commands)
    inside = {
        f"{group}-{name}"
        for group in ("analyze", "report")
        for name in commands.pop(group).commands
    }
    assert {"analyze-calibrate", "analyze-smoothness", "report-training"} < inside
    assert set(headings) == commands.keys() | inside
    assert "--num-samples" in told["commands.html"]
    for name in registry.names("caches"):
        assert f'<h3 id="{name}"' in told["caches.html"]
    assert "compute the whole network every n-th step" in told["caches.html"]


def test_links_to_files_of_the_repository_are_names_and_pictures_are_copied(site):
    told = pages(site)
    assert "tables.html" in told["index.html"]
    assert 'src="tiny/demo-samples.png"' in told["index.html"]
    assert "its\ntable and this plot" in told["caches.html"]
    assert "return call.store[call.site]" in re.sub(r"<[^>]*>", "", told["caches.html"])
