"""`python -m tests.tidy [rules | links]`: print violations, exit with 1 if there are any."""

import sys

from .rules import NAMES, check


def main() -> int:
    """Check the rules that the arguments name; all of them if there are none."""
    names = [
        name for name in NAMES if name in sys.argv[1:] or not sys.argv[1:] or (name != "links" and "rules" in sys.argv)
    ]
    found = [violation for name in names for violation in check(name)]
    for violation in found:
        print(violation)
    print(f"tidy: {len(names)} rules, {len(found)} violations")
    return 1 if found or not names else 0


if __name__ == "__main__":
    sys.exit(main())
