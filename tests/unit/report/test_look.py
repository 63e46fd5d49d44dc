"""Series are told apart by colour, whatever the reader's vision, and without colour."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from PIL import ImageColor

from skipdit_cli.report import charts, look

STYLE = files("skipdit_cli.report").joinpath("page.css").read_text(encoding="utf-8")
THEMES = re.findall(r"--s\d: light-dark\((#\w+), (#\w+)\);", STYLE)
PAPERS = re.search(r"--paper: light-dark\((#\w+), (#\w+)\)", STYLE).groups()
# What a dichromat sees of linear RGB: Machado, Oliveira, Fernandes 2009, severity 1.
VISIONS = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colours) -> np.ndarray:
    """sRGB "#rrggbb" -> linear RGB [n, 3]."""
    values = np.array([ImageColor.getrgb(each) for each in colours]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb) -> np.ndarray:
    """Linear RGB -> Oklab, in which 0.02 is a difference that is just seen (Ottosson 2020)."""
    lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(rgb @ np.transpose(lms)) @ np.transpose(lab)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", [0, 1])
def test_ten_colours_are_told_apart(theme, vision):
    seen = np.clip(linear([pair[theme] for pair in THEMES]) @ np.transpose(VISIONS[vision]), 0, 1)
    assert len(seen) == 10
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(oklab(seen), 2))
    assert nearest > 0.11  # of tab10, to a deuteranope, 0.02


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_stand_out_from_the_paper(theme):
    """WCAG asks for 3:1 of what has to be told in a picture."""
    luminance = linear([pair[theme] for pair in THEMES]) @ [0.2126, 0.7152, 0.0722]
    ((paper,),) = (linear([PAPERS[theme]]) @ [[0.2126], [0.7152], [0.0722]],)
    lighter, darker = np.maximum(luminance, paper), np.minimum(luminance, paper)
    assert ((lighter + 0.05) / (darker + 0.05)).min() > 3


def test_the_page_has_the_colours_of_the_figures():
    assert tuple(light for light, _ in THEMES) == look.COLOURS
    assert re.findall(r"^\.s(\d) \{ color: var\(--s(\d)\); \}", STYLE, re.MULTILINE) == [
        (str(i), str(i)) for i in range(10)
    ]


def test_series_that_share_a_colour_a_marker_or_dashes_differ_in_another():
    kinds = (look.COLOURS, look.MARKERS, look.DASHES)
    assert len(set(look.MARKERS)) == len(look.MARKERS) == len(charts.SHAPES)
    looks = {tuple(str(kind[i % len(kind)]) for kind in kinds) for i in range(110)}
    assert len(looks) == 110
    without_colour = {look[1:] for look in list(looks)}
    assert len(without_colour) == 44  # in grey, the first 44 series of a plot


def test_the_dashes_of_the_page_are_those_of_the_figures():
    assert [charts.dash(i) for i in range(5)] == ["", "10 4", "2.4 3", "10 3 2.4 3", ""]
