"""Policies that say how likely each choice was; and the rankers that once stood here, which entry points still name."""

from recgym.evaluation.policies import GaussianPolicy as GaussianPolicy
from recgym.evaluation.policies import SoftmaxPolicy as SoftmaxPolicy
from recgym.evaluation.policies import StochasticPolicy as StochasticPolicy
from recgym.scorers import Popularity as Popularity
from recgym.scorers import RecentPopularity as RecentPopularity
from recgym.scorers import Scorer as Scorer
from recgym.scorers import Uniform as Uniform
