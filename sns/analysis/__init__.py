"""From records to everything a reader sees. Reads records and nothing else; never imports torch."""
