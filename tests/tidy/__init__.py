"""The house rules, checked by machine.

Each rule is a pure function from (path, source) to violations; it reads no file and imports nothing it checks. `tree`
lists the files, `rules` says which rule looks at which file, `python -m tests.tidy` runs them, and
`tests/test_tidy.py` plants a violation of each rule to show that it can fail.
"""
