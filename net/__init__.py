"""The paper: network, cells, operations, loss and search. Nothing here reads a command line."""
