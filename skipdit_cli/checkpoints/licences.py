"""Licences that have to be accepted before anything is fetched under them.

One rule for checkpoints and for what metrics need: whatever is not free for every use everywhere
needs `--accept-license`. What is here already, or is given with `--from`, does not.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from skipdit_cli.errors import UsageError

AUTHORS = "its authors' terms"  # of what others put on the hub
RESTRICTED: Mapping[str, str] = MappingProxyType(  # and what they restrict
    {
        AUTHORS: "which they state where they offer the data",
        "CC-BY-NC-4.0": "for non-commercial use",
        "ImageNet terms of access": "for non-commercial research and education",
        "Tencent-Hunyuan-Community": (
            "not for the European Union, the United Kingdom and South Korea"
        ),
    }
)


def command(what: str, licences: Iterable[str]) -> str:
    """The command that fetches something, with the option that its licences ask for.

    >>> command("latte-skip", ["CC-BY-NC-4.0"])
    'skipdit download latte-skip --accept-license'
    """
    accept = " --accept-license" if any(each in RESTRICTED for each in licences) else ""
    return f"skipdit download {what}{accept}"


def told(licence: str, elsewhere: str) -> str:
    """A licence as people are told it, with what else is stated for the same files."""
    return f"{licence} ({elsewhere})" if elsewhere else licence


def check(name: str, licence: str, *, elsewhere: str = "", accepted: bool) -> None:
    """Raise a UsageError if the licence of what is to be fetched was not accepted and has to be."""
    if licence in RESTRICTED and not accepted:
        raise UsageError(
            f"the licence of {name} is {told(licence, elsewhere)}, {RESTRICTED[licence]}",
            place="skipdit download",
            fix="add --accept-license if you accept that",
        )
