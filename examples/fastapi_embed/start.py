"""`python -m examples.fastapi_embed.start`: an embedded server and two workers, until Ctrl-C."""

from __future__ import annotations

from examples.processes import Processes, free_port


def main() -> int:
    """Until the application ends, or somebody ends this process."""
    port = free_port()
    with Processes() as processes:
        processes.start(f"uvicorn examples.fastapi_embed.app:app --port {port} --workers 2")
        print(f"open http://127.0.0.1:{port}/; Ctrl-C ends all", flush=True)
        return processes.wait()


if __name__ == "__main__":
    raise SystemExit(main())
