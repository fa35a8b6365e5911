"""For use by all packages: errors, random streams, precision, memory, atomic files, ranks."""
