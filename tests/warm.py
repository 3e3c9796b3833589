"""Processes of Beaver that start in milliseconds: forked from one that has imported it.

Each is a process as any other: its own memory, files, sockets and signals, and a parent that is not this process.  What a fork
leaves out is the interpreter's start, and the seed of its hashes is that of the others; tests of how a process starts, and the walk
of docs/operations.md, use `nodes.BEAVER` instead.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = ["parties.cli", "tests.member", "uvloop"]


class Process:
    """The part of `asyncio.subprocess.Process` that tests use."""

    def __init__(self, pid, streams, ended):
        self.pid, self._ended, self.returncode = pid, asyncio.ensure_future(self._end(ended)), None
        self.stdin, self.stdout, self.stderr = streams

    async def _end(self, ended):
        reader, writer = ended
        try:
            self.returncode = int(await reader.readline())
        finally:
            writer.close()
        # Its ends of the pipes are closed by now: a few turns of the loop read what is left, and close ours.
        for _ in range(10):
            await asyncio.sleep(0)

    async def wait(self):
        await asyncio.shield(self._ended)
        return self.returncode

    async def communicate(self):
        read = [asyncio.ensure_future(stream.read()) for stream in (self.stdout, self.stderr) if stream is not None]
        found = iter(await asyncio.gather(*read))
        await self.wait()
        return tuple(None if stream is None else next(found) for stream in (self.stdout, self.stderr))

    def send_signal(self, number):
        # It may have ended without our having read so yet.
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


async def start(*arguments, module="parties.start", cwd, env=os.environ, stdin=None, stdout=None, stderr=None, passed=()):
    """`main()` of `module` with these arguments; each stream is a PIPE or a file, and the files in `passed` are its 3, 4 and so on."""
    near, far = socket.socketpair()
    files, ends = [], []
    with far, ExitStack() as stack:
        for stream, mode in ((stdin, "rb"), (stdout, "wb"), (stderr, "wb")):
            end = None
            if stream is subprocess.PIPE:
                reading, writing = os.pipe()
                theirs, end = (reading, writing) if mode == "rb" else (writing, reading)
                stream = stack.enter_context(os.fdopen(theirs, mode))
            files.append(stream or stack.enter_context(Path(os.devnull).open(mode)))
            ends.append(end)
        socket.send_fds(server(), [b"\0"], [each.fileno() for each in (far, *files, *passed)])
    reader, writer = await asyncio.open_unix_connection(sock=near)
    request = {"module": module, "arguments": [str(each) for each in arguments], "cwd": str(cwd), "env": {**env}}
    writer.write(json.dumps(request).encode() + b"\n")
    pid = int(await reader.readline())
    return Process(pid, [await _writer(ends[0]), await _reader(ends[1]), await _reader(ends[2])], (reader, writer))


async def _writer(end):
    if end is None:
        return None
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop), os.fdopen(end, "wb", 0))
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _reader(end):
    if end is None:
        return None
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(end, "rb", 0))
    return reader


# -- the process that has imported Beaver ------------------------------------------------------------------------


@functools.cache
def server():
    """The socket to it; it ends when this process does."""
    near, far = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", str(far.fileno())],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        pass_fds=[far.fileno()],
        start_new_session=True,
    )
    far.close()

    def end():
        near.close()
        process.wait()

    atexit.register(end)
    return near


def serve(requests):
    """Fork for every request.  Returns in a process that is asked for: what it is to run."""
    while True:
        word, files, _, _ = socket.recv_fds(requests, 1, 16)
        if not word:
            sys.exit()
        if os.fork() == 0:
            return attend(socket.socket(fileno=files[0]), files[1:])
        for each in files:
            os.close(each)
        _reap()


def _reap():
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def attend(asker, files):
    """Start the process, and tell `asker` its number and how it ended.  Returns in that process only."""
    with asker.makefile() as lines:
        request = json.loads(lines.readline())
    if (child := os.fork()) == 0:
        # Away from the numbers that they shall have.
        files = [fcntl.fcntl(each, fcntl.F_DUPFD, 64) for each in files]
        for number, each in enumerate(files):
            os.dup2(each, number)
        asker.detach()
        os.closerange(len(files), 1024)
        return request
    for each in files:
        os.close(each)
    asker.sendall(b"%d\n" % child)
    asker.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)


def main():
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["beaver", *request["arguments"]]
    importlib.import_module(request["module"]).main()


if __name__ == "__main__":
    main()
