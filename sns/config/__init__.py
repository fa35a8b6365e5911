"""Configuration: fields (schema), composed trees (compose) and short texts (units)."""
