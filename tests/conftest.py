"""For all tests: nothing fails because the machine is slow, and garbage is collected without looking at the tests."""

import gc

from hypothesis import HealthCheck, settings

# How long an example takes, or is looked for, says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """While tests are collected there is no garbage worth looking for."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end. A simulation makes much garbage, and passes over them would take seconds."""
    gc.collect()
    gc.freeze()
    gc.enable()
