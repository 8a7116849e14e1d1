"""Networks that draw images: pretrained generators, loaded safely."""

from cs_lip.priors.catalogue import DEFAULT_GENERATOR, Entry, bundled_generators, load_generator
from cs_lip.priors.dcgan import DCGAN, FoldedDCGAN, dcgan_from_state
from cs_lip.priors.generator import Generator
from cs_lip.priors.precision import has_fast_bfloat16

__all__ = [
    "DCGAN",
    "DEFAULT_GENERATOR",
    "Entry",
    "FoldedDCGAN",
    "Generator",
    "bundled_generators",
    "dcgan_from_state",
    "has_fast_bfloat16",
    "load_generator",
]
