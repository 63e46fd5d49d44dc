"""What a person wrote is shown as they wrote it, and is neither HTML nor a link nor a fence."""

import pytest
from markdown_it import MarkdownIt

from skipdit_cli.storage.markup import fenced, in_cell, plain

ODD = [
    "<b>bold</b> <img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[a](http://evil) ![b](http://evil/x.png)",
    "[a][b] <http://evil>",
    "```<b>`",
    "``a`<b>",
    "`a``<b>`",
    "\\`<b>`",
    "\\<b>",
    "\\\\<b>",
    "<!-- gone",
    "two\n# lines\n\n- and more",
    "a|b|c",
]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("written", [plain, in_cell])
def test_nothing_is_html_or_a_link(text, written):
    shown = (
        MarkdownIt()
        .enable("table")
        .render(f"| a |\n|:--|\n| {written(text)} |\n\n- {plain(text)}\n")
    )
    assert [
        part for part in ("<b>", "<img", "<script", "<a ", "<!--", "<h1") if part in shown
    ] == []
    assert shown.count("<td") == 1
    assert shown.count("<li>") == 1


def test_text_and_code_stay_what_they_are():
    for text in (
        "50 < t < 900",
        "a `skipdit plan x` b",
        "fid@digits",
        "C:\\dir",
        "n=2, 5 % & more",
    ):
        assert plain(text) == text
    assert in_cell("a|b `c|d`") == "a\\|b `c\\|d`"


@pytest.mark.parametrize("text", ["a", "```", "a ```` b", "`"])
def test_a_fence_is_longer_than_any_inside(text):
    shown = MarkdownIt().render(f"{fenced(text)}\n\nafter\n")
    assert shown == f"<pre><code>{text}\n</code></pre>\n<p>after</p>\n"
