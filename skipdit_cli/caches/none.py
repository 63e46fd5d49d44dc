"""No cache: every step computes the whole network (the reference of every table)."""

from collections.abc import Sequence
from dataclasses import dataclass

from skipdit_cli.sites import Layout, Site


@dataclass(frozen=True)
class Config:
    """No settings."""


def resolve(config: Config, layout: Layout) -> Config:
    return config


def reused(settings: Config, layout: Layout, timesteps: Sequence[int]) -> list[frozenset[Site]]:
    return [frozenset()] * len(timesteps)


def hooked(settings: Config, layout: Layout) -> list[Site]:
    return []
