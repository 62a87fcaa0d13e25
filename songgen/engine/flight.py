"""The songs that a stage of the chain has in hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from songgen.models.base import Draft, Job, Song

Item = TypeVar("Item", Job, Draft)


class Flight(Generic[Item]):
    """The items that a stage has taken (`taken` in all) and not yet given back (`open`)."""

    def __init__(self, items: Iterator[Item]) -> None:
        self.items: Iterator[Item] = items
        self.open: dict[str, Item] = {}
        self.taken = 0
        self.exhausted = False

    def __iter__(self) -> Iterator[Item]:
        for item in self.items:
            self.open[name_of(item)] = item
            self.taken += 1
            yield item
        self.exhausted = True


def name_of(item: Job | Draft | Song) -> str:
    """The song's name."""
    if isinstance(item, Song):
        return item.draft.job.name
    return item.job.name if isinstance(item, Draft) else item.name
