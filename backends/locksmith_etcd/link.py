"""Requests: one message there and one back, within a deadline, at whichever member answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

import grpc

from locksmith.errors import ClientClosed, StoreError, StoreUnavailable
from locksmith.runtime import Runtime
from locksmith_etcd import rpc
from locksmith_etcd.channels import AUTHENTICATE, Channel, Channels, Verb
from locksmith_etcd.errors import ChannelClosed, is_elsewhere, is_old_token, is_refused, translate
from locksmith_etcd.forks import Cut, gate

_PAUSE: Final = 0.02
_LONGEST: Final = 0.25
_REFUSALS: Final = 3
"""How often each member may refuse a connection before we say so, rather than use up the deadline."""
_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at whether the user's channel was closed, while nothing is heard. No requests."""
_CLOSED: Final = (ValueError, grpc.aio.UsageError)
"""What gRPC raises for a channel that somebody has closed."""


class Reply(NamedTuple):
    """What was answered."""

    message: Any
    since: float
    """The clock, read before the request that was answered was sent."""
    again: bool
    """Whether it was sent before, so that an earlier one may have acted already."""


class Link:
    """Requests of one client in one runtime."""

    def __init__(self, channels: Channels, runtime: Runtime) -> None:
        self._channels = channels
        self._runtime = runtime
        self._now = self.now = runtime.clock.now
        self._timeout = channels.cluster.timeout

    async def ask(self, verb: Verb, request: Any, within: float | None = None) -> Reply:
        """Send one request, to one member after the other until the time is over. Raises StoreError."""
        until = self._now() + (self._timeout if within is None else within)
        tries, again = 0, False
        while True:
            channel = self._channels.current()
            since = self._now()
            try:
                await self._log_in(channel, until)
                return Reply(await self._send(channel, verb, request, self._share(until, tries)), since, again)
            except grpc.RpcError as error:
                tries += 1
                again = again or not is_refused(error)
                pause = self._judge(error, channel, tries)
                if self._now() + pause >= until:
                    raise translate(error) from error
                await self._runtime.sleep(pause)

    def _judge(self, error: Any, channel: Channel, tries: int) -> float:
        """How long to wait before the next try; raises what another one does not change."""
        if is_old_token(error) and tries <= 2 and self._channels.cluster.username:
            self._channels.token = None
            return 0.0
        late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if late or is_elsewhere(error):
            self._channels.elsewhere(channel)
        if not (is_elsewhere(error) or (late and self._channels.count > 1)):
            raise translate(error) from error
        if is_refused(error) and tries >= _REFUSALS * self._channels.count:
            raise translate(error) from error
        return 0.0 if tries < self._channels.count else min(_LONGEST, _PAUSE * 2 ** min(tries, 8))

    def _share(self, until: float, tries: int) -> float:
        # A frozen member must not use up the time that another one needs to answer.
        left = max(0.001, until - self._now())
        return left if tries + 1 >= self._channels.count else left / 2

    async def ask_all(self, requests: Sequence[tuple[Verb, Any]], within: float) -> list[Reply | StoreError]:
        """Send requests side by side, and read what is answered in time; errors stand in their place."""
        until = self._now() + within
        try:
            channel = self._channels.current()
            await self._log_in(channel, until)
        except (grpc.RpcError, StoreError):
            return [await self._ask_late(verb, request, until) for verb, request in requests]
        since = self._now()
        sent: list[Any] = []
        answers: list[Reply | StoreError] = []
        try:
            for verb, request in requests:
                sent.append(self._start(channel, verb, request, self._share(until, 0)))
            for (verb, request), call in zip(requests, sent, strict=True):
                try:
                    answers.append(Reply(await self._finish(channel, call), since, again=False))
                except grpc.RpcError as error:
                    answers.append(await self._once_more(error, channel, verb, request, until))
        except BaseException:
            for call in sent:
                call.cancel()
            raise
        return answers

    async def _once_more(self, error: Any, channel: Channel, verb: Verb, request: Any, until: float) -> Any:
        try:
            self._judge(error, channel, 1)
        except StoreError as final:
            return final
        return await self._ask_late(verb, request, until)

    async def _ask_late(self, verb: Verb, request: Any, until: float) -> Reply | StoreError:
        left = until - self._now()
        try:
            if left <= 0:
                raise StoreUnavailable("etcd did not answer in time; try again, or raise the option timeout.")
            return (await self.ask(verb, request, left))._replace(again=True)
        except StoreError as error:
            return error

    async def _log_in(self, channel: Channel, until: float) -> None:
        cluster = self._channels.cluster
        if not cluster.username or self._channels.token is not None:
            return
        request = rpc.AuthenticateRequest(name=cluster.username, password=cluster.password)
        try:
            self._channels.token = (await self._send(channel, AUTHENTICATE, request, self._share(until, 0))).token
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            # Authentication is not enabled: anybody may do anything.
            self._channels.token = ""

    # The two ways to call: a blocking one on the caller's thread, and futures.

    async def _send(self, channel: Channel, verb: Verb, request: Any, timeout: float) -> Any:
        if self._runtime.is_async:
            return await self._finish(channel, self._start(channel, verb, request, timeout))
        call = channel.verbs[verb]
        try:
            return gate.through(partial(call, request, timeout=timeout, metadata=self._channels.metadata))
        except _CLOSED as closed:
            raise self._closed() from closed

    def _closed(self) -> Exception:
        if self._channels.closed:
            return ClientClosed("this store was closed: connect again")
        return ChannelClosed("etcd: the gRPC channel was closed by its owner; make another one, and connect again.")

    def _start(self, channel: Channel, verb: Verb, request: Any, timeout: float) -> Any:
        call = channel.verbs[verb]
        start = call if channel.native_async else call.future
        try:
            if self._runtime.is_async and not channel.native_async:
                channel.keep_listening(self._channels.metadata)
            return gate.through(partial(start, request, timeout=timeout, metadata=self._channels.metadata))
        except _CLOSED as closed:
            raise self._closed() from closed

    async def _finish(self, channel: Channel, call: Any) -> Any:
        if channel.native_async:
            with _heeding_own_cancellation():
                return await call
        if self._runtime.is_async:
            await _ended(call)
        try:
            return call.result()
        except grpc.FutureCancelledError as cut:
            raise StoreUnavailable("the request was cut short, by closing or by a fork; try again.") from cut

    async def watch(self, request: Any, cut: Cut) -> AsyncGenerator[Any, None]:
        """What a watch is answered, until it ends or is cut. Raises StoreError."""
        channel = self._channels.current()
        try:
            await self._log_in(channel, self._now() + self._timeout)
            call = gate.through(partial(channel.watch, request, metadata=self._channels.metadata))
        except grpc.RpcError as error:
            raise self._watch_failed(error, channel) from error
        except _CLOSED as closed:
            raise self._closed() from closed
        cut.begin(call)
        try:
            if channel.native_async:
                with _heeding_own_cancellation():
                    async for response in self._responses(channel, call):
                        yield response
            else:
                for response in call:
                    yield response
        except grpc.RpcError as error:
            raise self._watch_failed(error, channel) from error
        finally:
            cut.cut()

    async def _responses(self, channel: Channel, call: Any) -> AsyncGenerator[Any, None]:
        # Whoever reads from a stream of grpc.aio (1.66 to 1.76) when its channel is closed waits for ever.
        while True:
            reading = asyncio.ensure_future(call.read())
            try:
                while not (await asyncio.wait({reading}, timeout=_LOOK_EVERY))[0]:
                    if channel.is_shut():
                        raise self._closed()
            finally:
                reading.cancel()
            if (response := reading.result()) is grpc.aio.EOF:
                return
            yield response

    def _watch_failed(self, error: Any, channel: Channel) -> StoreError:
        if is_old_token(error):
            self._channels.token = None
        elif is_elsewhere(error):
            self._channels.elsewhere(channel)
        return translate(error)


@contextmanager
def _heeding_own_cancellation() -> Iterator[None]:
    """grpc.aio cancels whoever waits for a call that was cut; a task that nobody has cancelled goes on."""
    try:
        yield
    except asyncio.CancelledError as cut:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise StoreUnavailable("the request was cut short, by closing or by a fork; try again.") from cut


async def _ended(call: Any) -> None:
    """Sleep until a future of gRPC's has ended, which it tells on a thread of its own; cancelled, end it."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def tell(_: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed, and its sleepers with it
            loop.call_soon_threadsafe(_resolve, over)

    call.add_done_callback(tell)
    try:
        await over
    except BaseException:
        call.cancel()
        raise


def _resolve(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
