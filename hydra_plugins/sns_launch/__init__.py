"""Hydra finds its plugins here; what they do stands in sns/launch."""
