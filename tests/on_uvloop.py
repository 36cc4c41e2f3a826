"""A plugin of pytest: every event loop is uvloop's, also where a test asks for asyncio's own.

Run `python -m pytest -p tests.on_uvloop tests/runtime`.
"""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
