"""What `from sns import ...` gives to any training loop: one line a name. Needs torch only."""

from sns.measure.spectrum import sigma as sigma
from sns.measure.spectrum import spectrum as spectrum
from sns.method.gradient_penalty import GradientPenalty as GradientPenalty
from sns.method.jacobian import JacobianPenalty as JacobianPenalty
from sns.method.layerwise_jacobian import LayerwiseJacobianPenalty as LayerwiseJacobianPenalty
from sns.method.lipschitz_projection import LipschitzProjection as LipschitzProjection
from sns.method.orthonormal import OrthonormalPenalty as OrthonormalPenalty
from sns.method.sam import SharpnessAware as SharpnessAware
from sns.method.sigma_reparam import SigmaReparam as SigmaReparam
from sns.method.spectral import SpectralNormPenalty as SpectralNormPenalty
from sns.method.spectral_cap import SpectralHardCap as SpectralHardCap
from sns.method.spectral_cap import SpectralSoftCap as SpectralSoftCap
from sns.method.spectral_decay import SpectralHammer as SpectralHammer
from sns.method.spectral_decay import SpectralWeightDecay as SpectralWeightDecay
from sns.method.spectral_normalization import SpectralNormalization as SpectralNormalization
from sns.method.stable_rank import StableRankNormalization as StableRankNormalization
from sns.method.unit_sigma import UnitSigmaPenalty as UnitSigmaPenalty
from sns.method.weight_clipping import WeightClipping as WeightClipping
