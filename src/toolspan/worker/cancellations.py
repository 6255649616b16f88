"""Which calls were given up, as far as this worker knows, and for which it has to ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from toolspan.codec import call_id_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from toolspan.model import Delivery
    from toolspan.store.cancellations import CancellationStore
    from toolspan.store.steps import Claimed

KEPT: Final = 10_000
"""How many call ids are remembered. One that is forgotten is asked for again, with all that is as old."""


class Cancellations:
    """Call ids that were given up.

    While we hear what is told, nobody need be asked for calls that were appended since: whatever was given up of them
    was told to us. For older calls, and for all of them while we hear nothing, one look is taken per batch.
    """

    def __init__(self, store: CancellationStore) -> None:
        self._store = store
        self._known: dict[str, None] = {}
        self._heard_since_ms: int | None = None

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._known

    @property
    def deaf(self) -> bool:
        """Whether every call has to be asked for."""
        return self._heard_since_ms is None

    def hears(self, appended_ms: int) -> None:
        """All that is told is heard, from before any call was appended that is newer than *appended_ms*."""
        self._heard_since_ms = appended_ms

    def hears_nothing(self) -> None:
        """The subscription broke."""
        self._heard_since_ms = None

    def add(self, call_ids: Iterable[str]) -> None:
        """Remember that calls were given up."""
        self._known.update(dict.fromkeys(call_ids))
        if len(self._known) > KEPT:
            self._known = dict.fromkeys(list(self._known)[-KEPT // 2 :])
            self._heard_since_ms = None

    def knows(self, delivery: Delivery) -> bool:
        """Whether it is known of this call, and of all newer ones, if they were given up."""
        since_ms = self._heard_since_ms
        return since_ms is not None and int(delivery.entry_id.partition("-")[0]) > since_ms

    async def learn(self, claims: Sequence[Claimed]) -> None:
        """Find out about claimed calls, as far as the claim itself did not.

        Raises:
            StoreError: if Redis cannot be asked.
        """
        self.add(_call_ids(claim.delivery for claim in claims if claim.given_up))
        await self.look([claim.delivery for claim in claims if claim.given_up is None])

    async def look(self, deliveries: Sequence[Delivery]) -> None:
        """Find out about calls of which it is not known.

        Raises:
            StoreError: if Redis cannot be asked.
        """
        unsure = deliveries
        if deliveries and self.knows(deliveries[-1]):
            unsure = [delivery for delivery in deliveries if not self.knows(delivery)]
        asked = _call_ids(unsure)
        if asked:
            self.add(await self._store.given_up(asked))


def _call_ids(deliveries: Iterable[Delivery]) -> list[str]:
    found = (call_id_in(delivery.entry_id, delivery.fields) for delivery in deliveries)
    return [call_id for call_id in found if call_id is not None]
