"""What surrounds the algorithms: loops over logs and environments, replay, checkpoints, callbacks and diagnosis."""

from agents.training import checkpoint as checkpoint
