"""A Flask app behind gunicorn whose workers count in one place. README.md says how to start it.

gunicorn forks its workers, and with --preload it does so after this module has been imported. Neither nodes nor
connections survive a fork. `connect` opens nothing by itself, so `link` may stand here: each worker opens its own
connection with its first request.
"""

import os

from flask import Flask

from quorate import OutcomeUnknown, QuorateError, connect

from hits import Hits

ENDPOINTS = os.environ.get("ENDPOINTS", "127.0.0.1:7802,127.0.0.1:7804,127.0.0.1:7806")  # the nodes' client ports

link = connect(Hits, ENDPOINTS, timeout_s=10)  # less than gunicorn's own timeout of 30
app = Flask(__name__)


@app.post("/<page>")
def visit(page: str) -> dict[str, int]:
    """Count a visit. Its number is nobody else's."""
    hits = link.start()  # the same handle each time
    return {"hits": hits.add(page), "worker": os.getpid()}


@app.get("/<page>")
def show(page: str) -> dict[str, int]:
    """How many visits there were."""
    hits = link.start()
    return {"hits": hits.get(page), "worker": os.getpid()}


@app.errorhandler(QuorateError)
def unavailable(error: QuorateError) -> tuple[dict[str, str | bool], int]:
    """The cluster did not answer in time. A visit whose outcome is unknown may have been counted, or may still be."""
    return {"error": str(error), "may_have_counted": isinstance(error, OutcomeUnknown)}, 503
