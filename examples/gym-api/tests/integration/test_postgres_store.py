from __future__ import annotations

from uuid import uuid4

import pytest
from support.store_contract import StoreContract

from gym_api.postgres import PostgresStore


class TestPostgresStore(StoreContract):
    """The contract, on the real database."""


@pytest.mark.anyio
async def test_a_database_that_is_not_there_fails_the_check(database_url: str) -> None:
    server, _, _ = database_url.rpartition("/")
    store = PostgresStore(f"{server}/absent_{uuid4().hex}")
    with pytest.raises(Exception, match="does not exist"):
        await store.check()
    await store.close()
