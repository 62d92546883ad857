"""The reference store keeps the contract."""

from locksmith.testing.contract import StoreContract


class TestMemory(StoreContract):
    short = 0.2

    def url(self) -> str:
        return "memory://contract"
