"""The faults, and what makes them: the proxy before the service, or its process itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.faulty_proxy import FaultyProxy, Sickness
from tests.support.process import Process

__all__ = ["FAULTS", "Fault", "begin", "end"]

FLAP_SECONDS: Final = 0.15


@dataclass(frozen=True)
class Fault:
    """One way to fail. ``tls``: the service is reached over TLS. ``hangs``: attempts end by their own timeout."""

    name: str
    meaning: str
    tls: bool = False
    hangs: bool = False


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("refused", "nobody listens on the port"),
        Fault("black hole", "connections are accepted, requests are swallowed", hangs=True),
        Fault("SIGSTOP", "the process hangs; the kernel still accepts connections for it", hangs=True),
        Fault("kill -9", "the process is killed, and started again at the end"),
        Fault("slow", "each answer takes longer than an attempt may", hangs=True),
        Fault("reset", "the connection is reset in the middle of each answer"),
        Fault("garbage", "bytes come back that are no answer of the protocol"),
        Fault("500", "HTTP 500; of Redis -BUSY, a script that does not end"),
        Fault("503", "HTTP 503 with Retry-After: 1; of Redis -LOADING, a restart that reads its data"),
        Fault("429", "HTTP 429 with Retry-After: 1; of Redis -OOM, no memory left for writes"),
        Fault("TLS expired", "the certificate has expired", tls=True),
        Fault("flapping", "refused and well in turns"),
    )
}

_NOISE: Final = b"\x00\x01 this is no answer\r\n\r\n"
_REDIS: Final = {
    "500": b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
    "503": b"-LOADING Redis is loading the dataset in memory\r\n",
    "429": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
}
_PHRASES: Final = {"500": "Internal Server Error", "503": "Service Unavailable", "429": "Too Many Requests"}


def begin(fault: Fault, process: Process, proxy: FaultyProxy, *, redis: bool, slow: float) -> None:
    """Let the fault begin. ``slow``: seconds that an answer takes when it is too slow."""
    if fault.name == "SIGSTOP":
        process.pause()
    elif fault.name == "kill -9":
        process.kill()
    else:
        proxy.become(_sickness(fault.name, redis, slow))


def end(fault: Fault, process: Process, proxy: FaultyProxy) -> None:
    """Make everything well again; for a killed process that takes until it answers."""
    ending: dict[str, Callable[[], object]] = {"SIGSTOP": process.resume, "kill -9": process.start}
    ending.get(fault.name, proxy.heal)()


def _sickness(name: str, redis: bool, slow: float) -> Sickness:
    if name in _PHRASES:
        return Sickness("answer", answer=_REDIS[name] if redis else _http(name))
    return {
        "refused": Sickness("refuse"),
        "black hole": Sickness("silent"),
        "slow": Sickness("slow", seconds=slow),
        "reset": Sickness("cut"),
        "garbage": Sickness("answer", answer=_NOISE, then_close=True),
        "TLS expired": Sickness("expired"),
        "flapping": Sickness("flap", seconds=FLAP_SECONDS),
    }[name]


def _http(status: str) -> bytes:
    again = "" if status == "500" else "retry-after: 1\r\n"
    body = '{"code": "unwell", "message": "unwell"}'
    head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\n{again}"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()
