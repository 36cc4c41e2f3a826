"""Apps that speak ABCI 0.38, in Python: the base class of all, and CometBFT's kvstore. No sockets."""
