"""Importing this module composes the configurations of tiny trainings; forks of this process copy them."""

from hydra import compose, initialize_config_dir
from hydra.core.singleton import Singleton

from helpers import composed_once
from helpers.second_stage_setup import DIFFUSION
from helpers.training_setup import TINY
from pti.common.conf_dir import CONF_DIR

composed_once.install()
_before = dict(Singleton.get_state())
for words in ([], TINY, DIFFUSION):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        compose("train", words)
Singleton.set_state(_before)
