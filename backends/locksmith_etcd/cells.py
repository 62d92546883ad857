"""Cells: one key each, on a lease of its own where it has a ttl. A version is the revision of the last write."""

from __future__ import annotations

import os
from typing import Any, Final

from locksmith.errors import CellConflict, CellTooLarge, LeaseLost, StoreProtocolError
from locksmith.store import ABSENT, ANY, MAX_CELL_BYTES, Cell, Expect, Grant
from locksmith_etcd import keys, rpc
from locksmith_etcd.base import Asking
from locksmith_etcd.channels import RANGE, TXN
from locksmith_etcd.link import Reply

_NONCE: Final = 16
"""Characters before the value by which a writer knows its own write again, after a reply was lost."""


class Cells(Asking):
    """The store's cells."""

    async def get(self, key: str) -> Cell | None:
        """See Store.get."""
        reply = await self._link.ask(RANGE, rpc.RangeRequest(key=self._keys.cell(key)))
        for kv in reply.message.kvs:
            if len(kv.value) < _NONCE:
                raise StoreProtocolError(f"the key of cell {key!r} holds something else; choose another namespace.")
            return Cell(kv.value[_NONCE:], kv.mod_revision)
        return None

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        expect: int | Expect = ANY,
        ttl: float | None = None,
        guard: Grant | None = None,
    ) -> int:
        """See Store.put. With a ttl it is two requests: a lease, and the write."""
        if len(value) > MAX_CELL_BYTES:
            raise CellTooLarge(f"a cell holds at most {MAX_CELL_BYTES} bytes, this value has {len(value)}")
        where = self._keys.cell(key)
        written = os.urandom(_NONCE // 2).hex().encode() + value
        lease = 0 if ttl is None else (await self._leases.grant(self._leases.seconds(ttl), self._timeout)).id
        try:
            reply = await self._change(where, keys.put(where, written, lease, before=True), expect, guard)
            if reply.message.succeeded:
                version: int = reply.message.header.revision
                replaced = reply.message.responses[0].response_put.prev_kv
                if replaced.lease != lease:  # it is where this is the second try, and the first one wrote as well
                    await self._end_lease_of(replaced)
                return version
            found = _found(reply)
            if reply.again and found is not None and found.value == written:
                return int(found.mod_revision)
            raise _refusal(key, reply, expect, guard)
        except (CellConflict, LeaseLost):
            if lease:
                await self._leases.revoke(lease)
            raise

    async def delete(self, key: str, *, expect: int | Expect = ANY, guard: Grant | None = None) -> bool:
        """See Store.delete. "There is none" to a second request means that the first, unanswered one deleted it."""
        where = self._keys.cell(key)
        reply = await self._change(where, keys.delete(where, before=True), expect, guard)
        if reply.message.succeeded:
            gone = reply.message.responses[0].response_delete_range
            for kv in gone.prev_kvs:
                await self._end_lease_of(kv)
            return reply.again or gone.deleted > 0
        if reply.again and isinstance(expect, int) and _found(reply) is None and _is_held(reply, guard):
            return True
        raise _refusal(key, reply, expect, guard)

    async def _change(self, where: bytes, change: Any, expect: int | Expect, guard: Grant | None) -> Reply:
        """Change a cell if all is as expected; else read the cell and, with a guard, the holder."""
        compare, reads = [], [keys.read(where)]
        if isinstance(expect, int):
            # An absent key has revision 0, which nobody expects of a cell that is there.
            compare.append(
                rpc.Compare(key=where, target=rpc.Compare.MOD, mod_revision=expect)
                if expect > 0
                else rpc.Compare(key=where, target=rpc.Compare.MOD, result=rpc.Compare.LESS, mod_revision=0)
            )
        elif expect is ABSENT:
            compare.append(keys.absent(where))
        if guard is not None:
            holder = self._keys.claim(guard.claim)
            compare.append(keys.created(holder, guard.token))
            reads.append(keys.read(holder))
        return await self._link.ask(TXN, rpc.TxnRequest(compare=compare, success=[change], failure=reads))

    async def _end_lease_of(self, replaced: Any) -> None:
        # Each write with a ttl has a lease of its own; without this they would pile up until their ttls end.
        if replaced.lease:
            await self._leases.revoke(replaced.lease)


def _found(reply: Reply) -> Any:
    return next(iter(reply.message.responses[0].response_range.kvs), None)


def _is_held(reply: Reply, guard: Grant | None) -> bool:
    if guard is None:
        return True
    return any(kv.create_revision == guard.token for kv in reply.message.responses[1].response_range.kvs)


def _refusal(key: str, reply: Reply, expect: int | Expect, guard: Grant | None) -> CellConflict | LeaseLost:
    if guard is not None and not _is_held(reply, guard):
        return LeaseLost(f"{guard.claim.name!r} is not held with token {guard.token} any more")
    there = _found(reply)
    version = there.mod_revision if there is not None else None
    return CellConflict(f"cell {key!r} is at version {version}, expected {expect}", found=version)
