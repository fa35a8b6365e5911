"""What runs the project on unusual machines."""
