"""mypy sees the arguments and results of calls: a sample of right and wrong uses, checked as a user's project is."""

import re
from pathlib import Path

import pytest
from mypy import api

SAMPLE = Path(__file__).with_name("typed_sample.py")
SOURCES = Path(__file__).resolve().parents[3] / "src"
EXPECTED = re.compile(r"^ .*# E: (.+)$")
UNSEEN = ("cryptography", "lmdb", "quorate.kernel", "quorate.parts", "quorate.protocols", "quorate.runtime")
"""What the types of handles do not rest on: left out, as mypy would need seconds for it."""
UNSEEN_SECTIONS = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\nignore_missing_imports = True\n" for name in UNSEEN)
GIVEN = re.compile(r":(\d+): error: (.+?)(?:  \[[\w-]+\])?$", re.MULTILINE)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict[int, list[str]]:
    folder = tmp_path_factory.mktemp("mypy")
    settings = folder / "mypy.ini"
    settings.write_text(
        f"[mypy]\nstrict = True\nplugins = quorate.mypy_plugin\nmypy_path = {SOURCES}\n{UNSEEN_SECTIONS}"
    )
    out, err, _ = api.run(["--config-file", str(settings), "--cache-dir", str(folder / "cache"), str(SAMPLE)])
    assert not err, err
    found: dict[int, list[str]] = {}
    for line, text in GIVEN.findall(out):
        found.setdefault(int(line), []).append(text)
    return found


def test_mypy_finds_every_wrong_use_and_no_other(given: dict[int, list[str]]) -> None:
    expected = {
        number: match[1]
        for number, line in enumerate(SAMPLE.read_text().splitlines(), 1)
        if (match := EXPECTED.search(line))
    }
    assert len(expected) > 10
    assert sorted(given) == sorted(expected), given
    for number, text in expected.items():
        assert any(text in error for error in given[number]), (number, text, given[number])
