"""The comparison of all methods: the choice of strengths, its questions, its tables."""
