"""How one node is followed over broken connections and dropped updates, against a fake server."""

import asyncio

import msgpack
import pytest
from websockets.asyncio.server import serve

from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.page.tiled_http import TiledHttp, follow


class Recording(TiledHttp):
    """Notes what is reported of connections."""

    def __init__(self, uri, events):
        super().__init__(uri, "key")
        self._events = events

    def report(self, path, *, broken):
        super().report(path, broken=broken)
        self._events.append("lost" if broken else "back")


def followed(connections, *, kind=None, reject=None):
    """Follow a node whose server plays `connections`, lists of sequence numbers.

    Every connection but the last breaks; the last is ended by the producer. Returns what happened.
    """
    events, left = [], list(connections)

    async def play(socket):
        numbers = left.pop(0)
        await socket.send(msgpack.packb({"type": "array-schema", "version": 1}))
        for number in numbers:
            await socket.send(msgpack.packb({"type": "array-data", "sequence": number}))
        await socket.close(*((1012, "") if left else (1000, "Producer ended stream")))

    async def opened():
        events.append("read")

    async def main():
        async with serve(play, "127.0.0.1", 0, process_request=reject) as server:
            http = Recording(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", events)
            if kind is not None:
                http.kind = kind
            following = follow(
                http,
                "processed/run",
                opened=opened,
                message=lambda update: events.append(update["sequence"]),
            )
            try:
                if not await asyncio.wait_for(following, 60):
                    events.append("no streams")
            finally:
                await http.close()

    asyncio.run(main())
    return events


def test_the_stored_state_is_read_before_the_first_update():
    assert followed([[4, 5]]) == ["read", "back", 4, 5, "back"]


def test_after_a_gap_in_the_numbers_the_stored_state_is_read_again():
    assert followed([[1, 2, 5, 6]]) == ["read", "back", 1, 2, "read", 5, 6, "back"]


def test_after_a_broken_connection_the_stored_state_is_read_again():
    assert followed([[7], [1]]) == ["read", "back", 7, "lost", "read", "back", 1, "back"]


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_server_that_answers_but_has_no_stream_is_told_from_one_that_is_away(status):
    async def kind(_path):
        return "container", frozenset()

    def reject(connection, _request):
        return connection.respond(status, "no streaming")

    assert followed([[1]], kind=kind, reject=reject) == ["back", "no streams"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_node_that_is_gone_or_that_the_key_does_not_open_is_followed_no_more(status):
    async def kind(path):
        raise ResultNotFoundError(f"nothing at {path}")

    def reject(connection, _request):
        return connection.respond(status, "no")

    assert followed([[1]], kind=kind, reject=reject) == ["back"]


def test_a_refusal_after_a_first_connection_is_a_restart():
    refusals = []

    async def kind(_path):
        return "container", frozenset()

    def reject(connection, _request):
        refusals.append(len(refusals))
        return connection.respond(500, "starting") if refusals[-1] == 1 else None

    events = followed([[7], [1]], kind=kind, reject=reject)
    assert events == ["read", "back", 7, "lost", "lost", "read", "back", 1, "back"]


def test_a_message_that_cannot_be_used_breaks_nothing():
    assert followed([["no number", 3], [1]])[-3:] == ["back", 1, "back"]
