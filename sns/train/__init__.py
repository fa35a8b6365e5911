"""From a configuration to a record. Nothing here names a method, a model or a data set."""
