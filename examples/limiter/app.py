"""A FastAPI app whose workers share one rate limit. README.md says how to start it.

The workers are not nodes of the cluster; they `connect` to it. `uvicorn --workers 3` starts three copies of one
command: no worker knows which node it would be, and every deployment or change of their number would take nodes away.
So the nodes are three processes of their own, which stay when the workers come and go.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request

from quorate import Async, QuorateError, connect
from quorate.objects import Full

from limits import ApiLimiter

ENDPOINTS = os.environ.get("ENDPOINTS", "127.0.0.1:7802,127.0.0.1:7804,127.0.0.1:7806")  # the nodes' client ports


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Each worker opens its own connection, when it starts and not before."""
    async with connect(ApiLimiter, ENDPOINTS, timeout_s=10) as app.state.limiter:
        yield


async def limited(request: Request, x_api_key: Annotated[str, Header(min_length=1, max_length=256)]) -> None:
    """What a limited route depends on."""
    limiter: Async[ApiLimiter] = request.app.state.limiter
    try:
        passes = await limiter(ApiLimiter.allow, x_api_key)
    except (QuorateError, Full) as error:
        # If the cluster does not answer, nobody passes. To let everybody pass instead, return here.
        raise HTTPException(503, f"the rate limiter does not answer: {error}") from None
    if not passes:
        raise HTTPException(429, "no more than 100 requests per hour")


app = FastAPI(lifespan=lifespan)


@app.get("/", dependencies=[Depends(limited)])
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Which process answers; not limited."""
    return {"worker": os.getpid()}
