"""Networks that draw images: pretrained generators, loaded safely."""

from cs_lip.priors.catalogue import DEFAULT_GENERATOR, Entry, bundled_generators, load_generator
from cs_lip.priors.dcgan import DCGAN, FoldedDCGAN, dcgan_from_state
from cs_lip.priors.generator import Generator

__all__ = [
    "DCGAN",
    "DEFAULT_GENERATOR",
    "Entry",
    "FoldedDCGAN",
    "Generator",
    "bundled_generators",
    "dcgan_from_state",
    "load_generator",
]
