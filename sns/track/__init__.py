"""Views of the records in Weights & Biases and TensorBoard; no run ever waits for them."""
