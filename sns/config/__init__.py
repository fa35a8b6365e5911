"""What may be set (schema), how a composed tree becomes it (compose), and short texts that users
write (units)."""
