"""What `from sns import ...` gives to any training loop: one line a name. Needs torch only."""

from sns.measure.spectrum import sigma as sigma
from sns.measure.spectrum import spectrum as spectrum
from sns.method.spectral import SpectralNormPenalty as SpectralNormPenalty
