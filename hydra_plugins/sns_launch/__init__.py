"""The sweeper and the launchers that Hydra loads. Their work is done in sns/launch."""
