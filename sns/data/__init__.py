"""From files to contrast-normalised tensors on the device; order of batches; augmentation."""
