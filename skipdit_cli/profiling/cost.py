"""The cost of one call of a network, site by site, of a generation that reuses some of them, and
what a network and its autoencoder hold in memory meanwhile."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from skipdit_cli.sites import Site


@dataclass(frozen=True)
class Cost:
    """Three counts of the same computation, in single operations."""

    macs_paper: int = 0
    macs_executed: int = 0
    flops: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.macs_paper + other.macs_paper,
            self.macs_executed + other.macs_executed,
            self.flops + other.flops,
        )

    def __sub__(self, other: "Cost") -> "Cost":
        return self + other * -1

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.macs_paper * times, self.macs_executed * times, self.flops * times)

    def __floordiv__(self, parts: int) -> "Cost":
        return Cost(self.macs_paper // parts, self.macs_executed // parts, self.flops // parts)


@dataclass(frozen=True)
class Costs:
    """The cost of what a step computes of a model, and of every site in it.

    Attributes:
        total: everything computed.
        sites: each site with all that runs inside it, other sites included.
        inside: the site that directly contains a site, for those that have one.
        halves: of guidance, that these are the cost of together: 1, and any other costs as much;
            or 2, where the texts of both are of different length.
    """

    total: Cost
    sites: dict[Site, Cost]
    inside: dict[Site, Site]
    halves: int = 1

    def step(self, reused: Collection[Site], halves: int) -> Cost:
        """The cost of a step that does not compute the given sites, nor more halves of guidance."""
        cost = self.total
        for site in reused:
            if not any(outer in reused for outer in self._around(site)):
                cost -= self.sites[site]
        return cost * halves // self.halves

    def trajectory(self, steps: Mapping[tuple[Collection[Site], int], int]) -> Cost:
        """The cost of a whole generation.

        Args:
            steps: (sites that are not computed, halves that are) -> number of such steps.
        """
        costs = (self.step(sites, halves) * times for (sites, halves), times in steps.items())
        return sum(costs, start=Cost())

    def _around(self, site: Site) -> Iterator[Site]:
        while site in self.inside:
            site = self.inside[site]
            yield site


@dataclass(frozen=True)
class Sizes:
    """How many numbers a network and one call of it hold, for one sample without guidance.

    Attributes:
        weights: parameters and buffers.
        step: the most that is in memory at a time beside weights and inputs.
        latents: the shape of a sample as the network takes it, without the batch.
        channel_dim: where its channels are, the batch being dimension 0.
        sites: by kind of site, the shape of the hidden state that enters one.
        texts: tokens and width of what each text encoder gives.
    """

    weights: int
    step: int
    latents: tuple[int, ...]
    channel_dim: int
    sites: dict[str, tuple[int, ...]]
    texts: tuple[tuple[int, int], ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Frames, if it is a clip, height and width of the latents."""
        channel = self.channel_dim - 1
        return self.latents[:channel] + self.latents[channel + 1 :]


@dataclass(frozen=True)
class Decoding:
    """What an autoencoder does to decode one frame.

    Attributes:
        flops: floating-point operations.
        values: the most numbers that are in memory at a time beside the weights.
        weights: numbers of the whole autoencoder.
    """

    flops: int = 0
    values: int = 0
    weights: int = 0
