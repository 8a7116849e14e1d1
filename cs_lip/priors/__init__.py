"""Networks that draw images: pretrained generators, loaded safely, and untrained networks."""

from cs_lip.priors.adding import add_generator, check_new_name, remove_generator
from cs_lip.priors.architectures import ARCHITECTURES, build
from cs_lip.priors.blueprint import Blueprint
from cs_lip.priors.catalogue import (
    DEFAULT_GENERATOR,
    Entry,
    Listing,
    bundled_generators,
    find_entry,
    load_generator,
    user_folder,
    user_generators,
)
from cs_lip.priors.dcgan import DCGAN, FoldedDCGAN
from cs_lip.priors.decoder import Decoder
from cs_lip.priors.encoder import Encoder
from cs_lip.priors.generator import Generator, Geometry, Layer, State
from cs_lip.priors.layouts.recognise import LAYOUTS, Options, recognise
from cs_lip.priors.onnx import generator_from_onnx
from cs_lip.priors.pggan import PGGAN, FoldedPGGAN
from cs_lip.priors.precision import convolves_in_bfloat16, has_fast_bfloat16
from cs_lip.priors.starts import find_start, load_start, own_start_path, read_start, write_start
from cs_lip.priors.stylegan2 import FoldedStyleGAN2, StyleGAN2
from cs_lip.priors.untrained.deep_decoder import ConvDecoder, DeepDecoder
from cs_lip.priors.untrained.network import UntrainedNetwork
from cs_lip.priors.untrained.registry import UNTRAINED, untrained_network
from cs_lip.priors.untrained.skip import SKIP_SETTINGS, Skip, hourglass
from cs_lip.priors.untrained.unet import UNet

__all__ = [
    "ARCHITECTURES",
    "DCGAN",
    "DEFAULT_GENERATOR",
    "LAYOUTS",
    "PGGAN",
    "SKIP_SETTINGS",
    "UNTRAINED",
    "Blueprint",
    "ConvDecoder",
    "Decoder",
    "DeepDecoder",
    "Encoder",
    "Entry",
    "FoldedDCGAN",
    "FoldedPGGAN",
    "FoldedStyleGAN2",
    "Generator",
    "Geometry",
    "Layer",
    "Listing",
    "Options",
    "Skip",
    "State",
    "StyleGAN2",
    "UNet",
    "UntrainedNetwork",
    "add_generator",
    "build",
    "bundled_generators",
    "check_new_name",
    "convolves_in_bfloat16",
    "find_entry",
    "find_start",
    "generator_from_onnx",
    "has_fast_bfloat16",
    "hourglass",
    "load_generator",
    "load_start",
    "own_start_path",
    "read_start",
    "recognise",
    "remove_generator",
    "untrained_network",
    "user_folder",
    "user_generators",
    "write_start",
]
