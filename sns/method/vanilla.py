"""Vanilla problem (section 4): minimise 1/K sum_i L(f(x_i), y_i), nothing else."""

from sns.method.base import Method, register


@register("vanilla")
class Vanilla(Method):
    """Empirical risk minimisation without regularisation."""
