"""Licences that have to be accepted before anything is fetched under them.

One rule for checkpoints and for what metrics need: whatever is not free for every use everywhere
needs `--accept-license`. What is here already, or is given with `--from`, does not.
"""

from collections.abc import Mapping
from types import MappingProxyType

from skipdit_cli.errors import UsageError

RESTRICTED: Mapping[str, str] = MappingProxyType(  # and what they restrict
    {
        "CC-BY-NC-4.0": "for non-commercial use",
        "ImageNet terms of access": "for non-commercial research and education",
        "Tencent-Hunyuan-Community": (
            "not for the European Union, the United Kingdom and South Korea"
        ),
    }
)


def check(name: str, licence: str, *, accepted: bool) -> None:
    """Raise a UsageError if the licence of what is to be fetched was not accepted and has to be."""
    if licence in RESTRICTED and not accepted:
        raise UsageError(
            f"{name} is licensed {licence}, {RESTRICTED[licence]}",
            place="skipdit download",
            fix="add --accept-license if you accept that",
        )
