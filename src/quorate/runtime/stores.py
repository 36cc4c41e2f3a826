"""The snapshot stores of one node: one for each core that takes snapshots, the root's in the folder itself."""

from __future__ import annotations

import threading
from pathlib import Path

from quorate.kernel import ROOT
from quorate.kernel import Path as CorePath
from quorate.runtime.files import Identity
from quorate.runtime.snapshots import SnapshotStore


class SnapshotStores:
    """Opened as they are asked for, from any thread."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        """Opens the root's. Raises WrongIdentity, OSError."""
        self._directory = directory
        self._identity = identity
        self._lock = threading.Lock()
        self._stores = {ROOT: SnapshotStore(directory, identity)}

    def stop(self) -> None:
        """As ``SnapshotStore.stop``, for all of them."""
        with self._lock:
            for store in self._stores.values():
                store.stop()

    def __call__(self, path: CorePath = ROOT) -> SnapshotStore:
        """The store of a core. Raises WrongIdentity, OSError."""
        with self._lock:
            store = self._stores.get(path)
            if store is None:
                store = self._stores[path] = SnapshotStore(store_folder(self._directory, path), self._identity)
            return store


def store_folder(directory: Path, path: CorePath) -> Path:
    """Where the store of a core is, in the folder of the root's."""
    return directory.joinpath(*(f"{name}-{number}" for name, number in path))
