"""One page with everything that the records say."""
