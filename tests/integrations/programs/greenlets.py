"""gevent, patched before anything else is imported."""

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402

from tidegate.integrations import operation, shared_reporter  # noqa: E402


def work(number: int) -> None:
    with operation(f"g{number}") as op:
        for item in op.track(range(200)):
            if item % 50 == 0:
                op.publish("log", {"line": str(item)})
                gevent.sleep(0)


gevent.joinall([gevent.spawn(work, number) for number in range(20)], raise_error=True)
assert shared_reporter().flush(60)
