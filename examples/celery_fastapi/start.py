"""`python -m examples.celery_fastapi.start`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import secrets

from examples.processes import Processes, free_port


def main() -> int:
    """Until one of the processes ends, or somebody ends this one."""
    page, gateway, admin = free_port(), free_port(), free_port()
    origin = f"http://127.0.0.1:{page}"
    with Processes() as processes:
        processes.environment |= {
            "GATEWAY_URL": f"http://127.0.0.1:{gateway}",
            # The application signs the tokens of its users with it, and the gateway checks them.
            "TIDEGATE_AUTH__SECRET": secrets.token_hex(32),
        }
        settings = f"--auth jwt --set source.kind=claims --set auth.origins={origin}"
        ports = f"--port {gateway} --admin-port {admin}"
        processes.start(f"tidegate.cli.main serve {settings} {ports}")
        processes.start("celery -A examples.celery_fastapi.tasks worker -c 2")
        processes.start(f"uvicorn examples.celery_fastapi.app:app --port {page}")
        print(f"open {origin}/ in one browser or two; Ctrl-C ends all", flush=True)
        return processes.wait()


if __name__ == "__main__":
    raise SystemExit(main())
