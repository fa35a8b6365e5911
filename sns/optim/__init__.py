"""How parameters move: one optimizer a file."""
