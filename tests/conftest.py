"""For all tests: passes of the garbage collector do not look again and again through thousands of collected tests."""

import gc


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end; a simulation makes so much garbage that looking through them takes seconds."""
    gc.collect()
    gc.freeze()
