"""Benchmarks. Each measures against a named peer in the same run; `python -m bench` is the one against etcd."""
