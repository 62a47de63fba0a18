"""The clock of tests in real time, which stands still while their process does."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.own_time import OwnTime

_STOPPED = """
import asyncio, os, sys, time
from functools import partial
from tests.support.own_time import OwnTime, OwnTimeLoop

async def main():
    loop = asyncio.get_running_loop()
    began, real = loop.time(), time.monotonic()
    async with asyncio.timeout(0.6):
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
    print(loop.time() - began, time.monotonic() - real)

with OwnTime() as clock, asyncio.Runner(loop_factory=partial(OwnTimeLoop, clock)) as runner:
    runner.run(main())
"""


def test_a_process_that_is_not_let_run_loses_no_time() -> None:
    command = [sys.executable, "-c", _STOPPED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go on\n")
        process.stdin.flush()
        own, real = map(float, process.stdout.readline().split())
    assert real > 1.5
    assert own < 0.6


def test_what_blocks_a_thread_is_no_standstill() -> None:
    with OwnTime() as clock:
        began = clock()
        while clock() < began + 0.1:
            time.sleep(0.05)


@pytest.mark.real_time
async def test_it_is_never_faster_than_the_machines() -> None:
    loop = asyncio.get_running_loop()
    assert type(loop).__name__ == "OwnTimeLoop"
    for _ in range(200):
        assert loop.time() <= time.monotonic()
        await asyncio.sleep(0)


def test_a_clock_that_a_test_puts_into_the_module_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with OwnTime() as clock:
        began = clock()
        monkeypatch.setattr(time, "monotonic", lambda: 1 // 0)
        while clock() < began + 0.05:
            time.sleep(0.005)
