"""Learning an ISP: `train(data, out, config)`."""

from rawisp.train.config import TrainConfig, resolve_config
from rawisp.train.run import TrainResult, saved_config, train

__all__ = ["TrainConfig", "TrainResult", "resolve_config", "saved_config", "train"]
