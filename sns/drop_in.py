"""What `from sns import ...` gives to any training loop: one line a name. Needs torch only."""

from sns.measure.spectrum import sigma as sigma
from sns.measure.spectrum import spectrum as spectrum
from sns.method.lipschitz_projection import LipschitzProjection as LipschitzProjection
from sns.method.spectral import SpectralNormPenalty as SpectralNormPenalty
from sns.method.spectral_cap import SpectralHardCap as SpectralHardCap
from sns.method.spectral_cap import SpectralSoftCap as SpectralSoftCap
from sns.method.spectral_decay import SpectralHammer as SpectralHammer
from sns.method.spectral_decay import SpectralWeightDecay as SpectralWeightDecay
