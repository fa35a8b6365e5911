"""From files to contrast-normalised tensors on the device; order of batches; augmentation. Every
module of this package is imported, so a new reader registers itself."""

from sns.common.registry import import_modules

import_modules(__name__)
