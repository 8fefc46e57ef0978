"""llama-server with its real command line, out of the xllamacpp wheel; ``binaries.binary`` makes it run.

llama.cpp's own ``common_params_parse`` is called on the C++ struct inside ``CommonParams``, so flags,
``LLAMA_ARG_*``, ``--help``, ``--version`` and what a bad flag costs are the build's own. None of that is a
promise of the wheel: the layout is checked before it is relied on.

Faults, from the environment of the process:
    HALOTUI_TEST_IGNORE_TERM=1    SIGTERM changes nothing
    HALOTUI_TEST_SLOTS=N          N slots, whatever was asked (llama.cpp #17989)
    HALOTUI_TEST_LOAD_SECONDS=S   waits so long before it loads; a signal ends it then
    HALOTUI_TEST_DIE_AFTER=S      exits with 1, S seconds after it began to serve
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

SERVER = 12  # enum llama_example
HEADER = 16  # bytes of a PyObject before what it holds
PARSE = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
PR_SET_NAME = 15
STOP = {signal.SIGINT, signal.SIGTERM}
PATIENCE = 3  # seconds for a stop: it may be lost, or wait for a client


def fault(name: str) -> float:
    return float(os.environ.get(f"HALOTUI_TEST_{name}") or 0)


def main(arguments: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"llama-server")  # also when started as "python llama-server"
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if fault("IGNORE_TERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        STOP.discard(signal.SIGTERM)

    import xllamacpp
    from xllamacpp import xllamacpp as extension

    library = ctypes.CDLL(extension.__file__)
    build = int(xllamacpp.__version__.split(".")[2])  # the wheel is built without git: "b0-unknown"
    ctypes.c_int.in_dll(library, "LLAMA_BUILD_NUMBER").value = build
    params = xllamacpp.CommonParams()
    params.port, params.n_parallel = 8080, -1  # llama-server's own defaults
    if not parse(library, params, arguments):
        return 1

    time.sleep(fault("LOAD_SECONDS"))
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # before a native thread could take them
    if slots := int(fault("SLOTS")):
        params.n_parallel, params.kv_unified = slots, True
    try:
        server = xllamacpp.Server(params)  # returns when the model is served
    except RuntimeError as error:
        flush(library)
        print(f"llama-server: {error}", file=sys.stderr)
        return 1
    if seconds := fault("DIE_AFTER"):
        if signal.sigtimedwait(STOP, seconds) is None:
            os._exit(1)
    else:
        signal.sigwait(STOP)
    signal.alarm(PATIENCE)
    for number in STOP:  # a second one ends it at once, as it does the real one
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
    del server
    flush(library)
    return 0


def parse(library: ctypes.CDLL, params: object, arguments: list[str]) -> bool:
    """llama.cpp reads its command line and environment into ``params``; it may exit (``--help``)."""
    place = id(params) + HEADER
    first = ctypes.c_int32.from_address(place)
    was, params.n_predict = params.n_predict, 0x5EED
    if first.value != 0x5EED:
        raise SystemExit("this xllamacpp keeps its parameters elsewhere: native_server.py must be changed")
    params.n_predict = was
    words = [b"llama-server", *map(os.fsencode, arguments)]
    function = getattr(library, PARSE)
    function.restype = ctypes.c_bool
    argv = (ctypes.c_char_p * (len(words) + 1))(*words)
    return bool(function(len(words), argv, ctypes.c_void_p(place), SERVER, None))


def flush(library: ctypes.CDLL) -> None:
    """The log is written by a thread of its own, which our exit would cut off."""
    log = library._Z15common_log_mainv
    log.restype = ctypes.c_void_p
    library._Z16common_log_flushP10common_log(ctypes.c_void_p(log()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
