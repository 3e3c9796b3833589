"""A real node in a process of its own: `warm.start(CONFIG, FD, module="tests.member")`.

Reads "JOB PROGRAM" lines from standard input, runs each as a session, and prints one JSON line per event.  Ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import numpy as np

import mpc
import protocols
from parties.run import INTERRUPTED, run


def say(**event):
    # One write: lines of two threads must not mix.
    print(json.dumps(event) + "\n", end="", flush=True)


async def total(s):
    return (await protocols.secure_sum(s, [s.index + 1.0])).tolist()


async def product(s):
    x, y = (await s.inputs([s.index + 2.0], bound=100.0))[:2]
    return (await s.reveal(await mpc.mul(s, x, y))).tolist()


async def endless(s):
    rounds = 0
    while True:
        value = await product(s)
        if abs(value[0] - 6.0) > 1e-3:
            return value
        rounds += 1
        if rounds % 20 == 0:
            say(rounds=rounds)


async def long(s):
    """300 products, then the number of right ones."""
    right = 0
    for number in range(300):
        right += abs((await product(s))[0] - 6.0) < 1e-3
        if number == 20:
            say(rounds=number)
        await asyncio.sleep(0.005)
    return right


async def raises(s):
    await total(s)
    if s.index == 1:
        raise RuntimeError("a secret number: 4711")
    await total(s)


async def impatient(s):
    await total(s)
    while s.index == 0:
        s._ops.check_alive()
        await asyncio.sleep(0.01)
    async with asyncio.timeout(0.5):
        await total(s)


async def sleepy(s):
    await total(s)
    if s.index == 2:
        await asyncio.sleep(30)
    await total(s)


async def wide(s):
    return float(np.sum(await protocols.secure_sum(s, np.ones(1 << 21))))


PROGRAMS = {program.__name__: program for program in (total, product, endless, long, raises, impatient, sleepy, wide)}


async def one(node, job, program):
    try:
        async with node.session(job) as s:
            result = await PROGRAMS[program](s)
        say(job=job, result=result)
    except Exception as fault:
        say(job=job, error=type(fault).__name__, text=str(fault))


async def member(config, listener):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with mpc.open_node(config, listener=listener) as node:
        say(ready=node.mesh.identity.name)
        while line := await reader.readline():
            await one(node, *line.decode().split())


def main():
    try:
        run(member(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
