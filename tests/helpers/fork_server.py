"""The process behind `forks`: ``python fork_server.py SOCKET MODULE …``.

It imports the modules and reads requests from the socket: one to start a program in a fork, with the
descriptor of its output, is answered by the fork's process id; one to poll a process by its exit code.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys


def _serve(connection: socket.socket, imported: list[str]) -> None:
    for name in imported:
        __import__(name)
    gc.collect()
    gc.freeze()  # otherwise the collector of every fork would copy all these pages
    while True:
        text, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 1)
        if not text:
            return
        request = json.loads(text)
        if "poll" in request:
            ended, status = os.waitpid(request["poll"], os.WNOHANG)
            reply = os.waitstatus_to_exitcode(status) if ended else None
        else:
            reply = os.fork()
            if not reply:
                connection.close()
                _become(request["cwd"], request["words"], request["environment"], descriptors[0])
            os.close(descriptors[0])
        connection.send(json.dumps(reply).encode())


def _become(cwd: str, words: list[str], environment: dict[str, str], output: int) -> None:
    """Run a module in this process, as ``python -m`` does, and end."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [cwd, *filter(None, folders)]  # instead of this file's folder
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
