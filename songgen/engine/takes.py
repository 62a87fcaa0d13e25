"""The takes of a request, the several songs that it asks for, of which `keep=best` keeps one.

Drafts wait until the last take of their request has ended, composed or not; then the best goes on to be
rendered. The best is the one to whose codes the request adds most log-probability by the language model's own
count: `LmScore.difference`. A mean log-probability alone would rank by how plain a song is, since dull and
repetitive codes are likely whatever was asked for; what is likely without the request is therefore taken off,
as classifier-free guidance does in each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from songgen.engine.settings import Settings
from songgen.models.base import Draft, ModelFacts


@dataclass
class _Group:
    """The takes of a request, in order: those that have not ended, and the drafts of those that have."""

    names: Sequence[str]
    open: set[str]
    drafts: list[Draft] = field(default_factory=list)

    def best(self) -> Draft:
        """The draft with the highest difference as it is recorded, the first of equal ones."""
        ranked = sorted(self.drafts, key=lambda draft: self.names.index(draft.job.name))
        return max(ranked, key=_difference)


class Takes:
    """The takes that wait for each other.

    Args:
        pass_over: called with each draft that is not kept, before the best of its request goes on.
    """

    def __init__(self, pass_over: Callable[[Draft], None]) -> None:
        self._pass_over = pass_over
        self._groups: dict[str, _Group] = {}
        self._complete: list[_Group] = []

    def expect(self, names: Sequence[str]) -> None:
        """Keep one of these songs, and no more."""
        self._groups.update(dict.fromkeys(names, _Group(names, set(names))))

    def end(self, name: str) -> None:
        """A song has ended without a draft; nothing to do for one that nobody waits for."""
        self._close(name)

    def best(self, drafts: Iterator[Draft]) -> Iterator[Draft]:
        """The drafts to render: those that wait for no other, and the best of each request once it is known.

        Requests whose takes have not all ended with the last draft go on in the next call.
        """
        for draft in drafts:
            group = self._groups.get(draft.job.name)
            if group is None:
                yield draft
            else:
                group.drafts.append(draft)
                self._close(draft.job.name)
            yield from self._chosen()
        yield from self._chosen()

    def _close(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            group.open.discard(name)
            if not group.open:
                self._complete.append(group)

    def _chosen(self) -> Iterator[Draft]:
        """The best of each request whose takes have all ended; none where all have failed."""
        while self._complete:
            group = self._complete.pop(0)
            if group.drafts:
                best = group.best()
                for draft in group.drafts:
                    if draft is not best:
                        self._pass_over(draft)
                yield best


def check_keep(settings: Settings, model: ModelFacts) -> None:
    """Refuse to choose among drafts that have no score.

    Raises:
        ValueError: the model keeps none.
    """
    if settings.keep == "best" and not model.scores_drafts:
        raise ValueError(
            f"keep=best ranks takes by the language model's own score, which {model.name} does not keep; "
            "use keep=all"
        )


def _difference(draft: Draft) -> float:
    assert draft.lm_score is not None, f"{draft.job.name} has no score"
    return draft.lm_score.as_dict()["difference"]
