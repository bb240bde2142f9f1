"""Deliveries to environments of this machine, as its settings have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.clock import SystemClock
from ci.events import Feed
from ci.records.ledger import FILE_NAME, Ledger, LedgerEntry
from ci.settings import Settings
from ci.values import DeliveryRecord

if TYPE_CHECKING:
    from ci.deploy.targets.local.delivery import LocalDelivery

__all__ = ["local_delivery"]


def local_delivery(settings: Settings, feed: Feed | None = None) -> LocalDelivery:
    """What delivers to this machine, tells its steps, and notes in the ledger what came of it."""
    from ci.deploy.targets.local.delivery import LocalDelivery  # noqa: PLC0415 - as below
    from ci.engine.runtime import Runtime  # noqa: PLC0415 - an extra, and costly to import

    ledger = Ledger(settings.state / FILE_NAME)

    def record(delivery: DeliveryRecord) -> None:
        ledger.append(LedgerEntry(recorded_at=SystemClock().now(), delivery=delivery))

    return LocalDelivery(Runtime(), state=settings.state, ledger=record, moved=feed)
