from support.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    """The stand-in that the other unit tests use keeps the contract of the real store."""
