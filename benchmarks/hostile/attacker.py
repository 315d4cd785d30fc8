"""Runs an attack in a process of its own, from an address of its own."""

import asyncio
import multiprocessing
from collections import Counter
from multiprocessing.connection import Connection

import aiohttp

from benchmarks.hostile.attacks import ATTACKS, Answers, prepare

ADDRESS = "127.0.0.3"


class Attacker:
    """A process that attacks the server at `url` for so many seconds; `wait` returns how it was answered."""

    def __init__(self, url: str, attack: str, seconds: float, address: str = ADDRESS) -> None:
        self._told, tell = multiprocessing.Pipe(duplex=False)
        spawning = multiprocessing.get_context("spawn")
        self._process = spawning.Process(target=_attack, args=(url, attack, seconds, address, tell))

    def start(self) -> None:
        """Return when the attack begins."""
        self._process.start()
        self._told.recv()

    def wait(self) -> Answers:
        """Wait for its end; return the number of answers by their status."""
        answers: Answers = self._told.recv()
        self._process.join()
        return answers


def _attack(url: str, name: str, seconds: float, address: str, tell: Connection) -> None:
    async def run() -> Answers:
        answers: Answers = Counter()
        connector = aiohttp.TCPConnector(limit=0, local_addr=(address, 0))
        patience = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(url, connector=connector, timeout=patience) as session:
            tell.send("begun")
            attacking = asyncio.ensure_future(ATTACKS[name](session, answers))
            await asyncio.wait([attacking], timeout=seconds)
            if attacking.done():
                attacking.result()
            attacking.cancel()
            await asyncio.wait([attacking])
        return answers

    prepare(name)
    tell.send(asyncio.run(run()))
