"""What is measured of a model: nothing here changes the state of a run."""
