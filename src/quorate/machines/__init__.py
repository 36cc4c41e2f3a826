"""State machines: what a log of commands may mean. A Replica of the service applies them to one."""
