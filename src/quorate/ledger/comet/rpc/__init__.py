"""CometBFT's RPC without a socket: routes, their arguments and answers, events, and the language of queries."""
