"""`python -m examples.llm_stream.start`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

from examples.processes import Processes, free_port

REPLICAS = 2


def main() -> int:
    """Until the application ends, or somebody ends this process. Replicas may be killed."""
    page = free_port()
    origin = f"http://127.0.0.1:{page}"
    gateways = []
    with Processes() as processes:
        for number in range(1, REPLICAS + 1):
            port, admin = free_port(), free_port()
            ports = f"--port {port} --admin-port {admin} --pod replica-{number}"
            settings = f"--auth none --set auth.origins={origin}"
            pid = processes.start(f"tidegate.cli.main serve {settings} {ports}", expendable=True)
            gateways.append(f"http://127.0.0.1:{port}")
            shown = f"{gateways[-1]}, admin http://127.0.0.1:{admin}"
            print(f"replica-{number} is {shown}; kill -9 {pid} kills it", flush=True)
        processes.environment["GATEWAY_URLS"] = ",".join(gateways)
        processes.start(f"uvicorn examples.llm_stream.app:app --port {page}")
        print(f"open {origin}/ in one tab or two; Ctrl-C ends all", flush=True)
        return processes.wait()


if __name__ == "__main__":
    raise SystemExit(main())
