"""What changes with the choices that the paper leaves open."""
