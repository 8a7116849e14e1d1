"""Networks that draw images: pretrained generators, loaded safely."""

from cs_lip.priors.architectures import ARCHITECTURES, build
from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.catalogue import DEFAULT_GENERATOR, Entry, bundled_generators, load_generator
from cs_lip.priors.dcgan import DCGAN, FoldedDCGAN
from cs_lip.priors.generator import Generator, Geometry, Layer, State
from cs_lip.priors.layouts import LAYOUTS, Options, recognise
from cs_lip.priors.precision import has_fast_bfloat16

__all__ = [
    "ARCHITECTURES",
    "DCGAN",
    "DEFAULT_GENERATOR",
    "LAYOUTS",
    "Blueprint",
    "Entry",
    "FoldedDCGAN",
    "Generator",
    "Geometry",
    "Layer",
    "Options",
    "State",
    "build",
    "bundled_generators",
    "has_fast_bfloat16",
    "load_generator",
    "recognise",
]
