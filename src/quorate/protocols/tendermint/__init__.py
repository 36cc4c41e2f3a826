"""Tendermint: a log in heights and rounds among weighted nodes of which less than a third of the power may lie."""
