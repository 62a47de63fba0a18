"""The child process of the local model: llama.cpp's own server on a free port of the loopback interface.

It reads one line of JSON from stdin (``weights``, ``alias``, ``key``, ``context``, ``answer``), writes one to stdout
(``url``, or ``error``), and lives until stdin ends. That is when its parent closes it or dies, however it dies.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any, Final

__all__ = ["main"]

# More threads than one spin while they wait for each other: on a machine that does anything else, two were slower.
_THREADS: Final = 1


def main() -> None:
    """Serve until stdin ends."""
    # What llama.cpp prints must not get between the parent and the one line that it waits for.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.loads(sys.stdin.readline() or "null")
    if asked is None:
        return
    try:
        server = _server(asked)
    except Exception as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"url": server.listening_address}), file=answers, flush=True)
    sys.stdin.read()
    # Its threads are the library's, which would wait for answers under way.
    os._exit(0)


def _server(asked: dict[str, Any]) -> Any:
    # By name, because its native module has no types.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = asked["weights"]
    params.model_alias = {asked["alias"]}
    params.api_keys = [asked["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.ui = False
    params.n_parallel = 1
    params.n_ctx = asked["context"]
    params.n_predict = asked["answer"]
    params.cache_ram_mib = 0
    params.verbosity = -1
    params.sampling.temp = 0.0  # its likeliest words are its best ones
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = _THREADS
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
