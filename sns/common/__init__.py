"""What anyone may use: errors, random streams, precision, memory, files written whole."""
