"""Files to contrast-normalised tensors on the training device, the order of batches, and
augmentation."""
