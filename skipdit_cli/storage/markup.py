r"""Markdown that shows what a person wrote as it is: no HTML, no link, no code by accident.

>>> plain("<b>[a](b) `<c>`")
'\\<b>\\[a](b) `<c>`'
"""

import re

_CODE = re.compile(r"((?<![`\\])`[^`]+`(?!`))")
# What begins HTML, code, a link, or an escape.
_MARKUP = re.compile(r"<(?=[a-zA-Z/!?])|[`\[]|\\(?=[!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """Text on one line; `code` in single backquotes stays code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if i % 2 else _MARKUP.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def in_cell(text: str) -> str:
    """`plain` text in a cell of a table."""
    return plain(text).replace("|", "\\|")


def fenced(text: str) -> str:
    """Text as a block of code, whatever backquotes are in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
