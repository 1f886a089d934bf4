"""Networks that agents share: layers, actors, critics, heads, encoders, and the checks of what shapes them."""

from agents.networks.layers import Actor as Actor
from agents.networks.layers import Critic as Critic
from agents.networks.layers import Dropout as Dropout
from agents.networks.layers import Scalar as Scalar
from agents.networks.layers import init_uniform as init_uniform
from agents.networks.layers import polyak_update as polyak_update
