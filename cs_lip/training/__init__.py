"""Training a generator of one's own on pictures, and learned starts on a generator's draws."""

from cs_lip.training.checkpoint import load_checkpoint, save_checkpoint
from cs_lip.training.critic import Critic
from cs_lip.training.settings import SIZES, Settings, dcgan_settings
from cs_lip.training.start_training import StartSettings, StartTraining
from cs_lip.training.wgan_gp import Losses, Training

__all__ = [
    "SIZES",
    "Critic",
    "Losses",
    "Settings",
    "StartSettings",
    "StartTraining",
    "Training",
    "dcgan_settings",
    "load_checkpoint",
    "save_checkpoint",
]
