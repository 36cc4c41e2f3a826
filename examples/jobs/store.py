"""Where results go: a SQLite file that refuses the results of workers whose lease has ended.

A worker that was suspended, or whose network was slow, does not know that its job has gone to another. Every delivery
has a greater token than those before it, and the store keeps the token of each result: a lower one comes too late.
"""

import sqlite3
from pathlib import Path

from quorate.objects import StaleToken

TABLE = "CREATE TABLE IF NOT EXISTS results (job INTEGER PRIMARY KEY, token INTEGER NOT NULL, result TEXT NOT NULL)"
# One statement, so that nobody can come between the comparison and the write. The same token may write again.
WRITE = """
INSERT INTO results VALUES (?, ?, ?)
ON CONFLICT (job) DO UPDATE SET token = excluded.token, result = excluded.result WHERE excluded.token >= results.token
"""


class Store:
    """Use it in one thread. Several processes may share the file."""

    def __init__(self, path: Path | str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._db.execute(TABLE)

    def write(self, job: int, token: int, result: str) -> None:
        """Keep the result of a job. Raises StaleToken if another delivery of it has written."""
        if self._db.execute(WRITE, (job, token, result)).rowcount == 0:
            raise StaleToken(f"token {token} is too old: job {job} was delivered again, and that delivery has written")

    def results(self) -> dict[int, tuple[int, str]]:
        """Of each job, the token and the result."""
        rows = self._db.execute("SELECT job, token, result FROM results ORDER BY job")
        return {job: (token, result) for job, token, result in rows}

    def close(self) -> None:
        self._db.close()
