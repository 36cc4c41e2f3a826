"""Replicated objects: a plain Python class whose marked methods go through consensus.

`definition` looks at the class, `state` keeps an instance of it, and `machine` applies calls to that. Below them:
`kinds` and `values`, which classes and values there are and how they travel; `calls`, what is in the log and what
comes back; `containers`, `ordered_set` and `holding`, which notice changes; `tracker`, which undoes and judges them;
`digests`; `capture` and `snapshot`, which write the state in another thread.
"""
