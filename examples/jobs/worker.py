"""A worker: takes jobs, stores their results, acknowledges them. Start as many as you like, and kill them as you like.

If a worker dies, its job is delivered again when its lease ends, so each job is done at least once. The store sees to
it that an older delivery never overwrites the result of a newer one. For jobs that may outlast their lease, call
`queue.renew(token)` now and then; a high `delivery.attempt` tells you that a job keeps killing its workers.
"""

import os
import signal
import sys
import threading
import time
from contextlib import closing

from quorate import QuorateError, connect
from quorate.objects import Queue, StaleToken

from store import Store

ENDPOINTS = os.environ.get("ENDPOINTS", "127.0.0.1:7802,127.0.0.1:7804,127.0.0.1:7806")  # the nodes' client ports
STORE = os.environ.get("STORE", "data/results.sqlite")
LEASE_S = float(os.environ.get("LEASE_S", "30"))
WORK_S = float(os.environ.get("WORK_S", "1"))
PAUSE_S = 0.5


def work(job: str) -> str:
    """Stands for something that takes a while."""
    time.sleep(WORK_S)
    return job.upper()


def do_one(queue: Queue, store: Store) -> bool:
    """Do a job, if there is one."""
    delivery = queue.take(LEASE_S)
    if delivery is None:
        return False
    job = f"job {delivery.number} with token {delivery.token}"
    print(f"took {job}, attempt {delivery.attempt}", flush=True)
    try:
        store.write(delivery.number, delivery.token, work(delivery.job))
        print(f"stored {job}", flush=True)
        queue.ack(delivery.token)  # only now: a job that is acknowledged is never delivered again
        print(f"done {job}", flush=True)
    except StaleToken as error:
        print(f"refused {job}: {error}", flush=True)  # another worker has the job, or will
    return True


def main() -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with connect(Queue, ENDPOINTS, timeout_s=10) as queue, closing(Store(STORE)) as store:
        while not stopped.is_set():
            try:
                found = do_one(queue, store)
            except QuorateError as error:  # what was taken meanwhile is delivered again when its lease ends
                print(f"the queue does not answer: {error}", file=sys.stderr)
                found = False
            if not found:
                stopped.wait(PAUSE_S)


if __name__ == "__main__":
    main()
