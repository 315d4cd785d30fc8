"""Clients take turns at the gate, and nobody who gives up keeps a place."""

import asyncio

from blip2_serve.tasks.load.gate import FairGate


def order_of(clients: str, num_places: int) -> str:
    """Queue a visitor for each letter, all at once; return the letters in the order in which they got in."""
    entered: list[str] = []

    async def visit(gate: FairGate, client: str) -> None:
        async with gate.place(client):
            entered.append(client)
            await asyncio.sleep(0.002)

    async def run() -> None:
        gate = FairGate(num_places)
        await asyncio.gather(*(visit(gate, client) for client in clients))
        assert (gate._num_free, gate._waiting) == (num_places, {})

    asyncio.run(run())
    return "".join(entered)


def test_a_newcomer_does_not_wait_for_all_who_came_before() -> None:
    assert order_of("aaaaaaaab", 1).index("b") < 3


def test_one_client_is_served_in_order_and_completely() -> None:
    assert order_of("a" * 9, 3) == "a" * 9


def test_one_client_never_holds_all_places() -> None:
    async def run() -> None:
        gate = FairGate(3)
        release = asyncio.Event()

        async def hold() -> None:
            async with gate.place("greedy"):
                await release.wait()

        holding = [asyncio.create_task(hold()) for _ in range(5)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5), gate.place("other"):
            release.set()
        await asyncio.gather(*holding)

    asyncio.run(run())


def test_a_visitor_that_gives_up_leaves_its_place_to_the_next() -> None:
    async def run() -> None:
        gate = FairGate(1)
        async with gate.place("a"):
            waiting = [asyncio.create_task(gate.place("b").__aenter__()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            waiting[2].cancel()
            await asyncio.sleep(0)
        waiting[1].cancel()  # in the moment in which it is let in
        await asyncio.wait(waiting)
        async with asyncio.timeout(5), gate.place("c"):
            pass
        assert (gate._num_free, gate._waiting, dict(+gate._inside)) == (1, {}, {})

    asyncio.run(run())
