"""The key-value state machine: etcd's data model (multi-version, revisions, transactions) on LMDB."""
