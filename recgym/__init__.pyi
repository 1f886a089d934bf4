"""The public names of recgym and where they are defined: read by type checkers, and on first use by `lazy_loader`."""

from . import datasets as datasets
from . import embeddings as embeddings
from . import export as export
from . import fidelity as fidelity
from . import ope as ope
from . import users as users
from .batches import FrameBatches as FrameBatches
from .batches import SequenceBatches as SequenceBatches
from .batches import VectorBatches as VectorBatches
from .catalog import Catalog as Catalog
from .data_source import DataSource as DataSource
from .envs.env import RecEnv as RecEnv
from .envs.env import RecVectorEnv as RecVectorEnv
from .envs.registry import register_dataset as register_dataset
from .envs.registry import register_envs as register_envs
from .envs.registry import register_world as register_world
from .errors import ActionError as ActionError
from .errors import DataError as DataError
from .errors import HashMismatchError as HashMismatchError
from .errors import MissingDataError as MissingDataError
from .errors import RecgymError as RecgymError
from .errors import StoreError as StoreError
from .evaluation import metrics as metrics
from .evaluation.collection import collect as collect
from .evaluation.collection import true_value as true_value
from .evaluation.comparison import compare as compare
from .evaluation.evaluate import evaluate_ranking as evaluate_ranking
from .evaluation.evaluate import evaluate_sessions as evaluate_sessions
from .evaluation.policies import GaussianPolicy as GaussianPolicy
from .evaluation.policies import SoftmaxPolicy as SoftmaxPolicy
from .evaluation.scoring import recommend as recommend
from .evaluation.scoring import recommend_batch as recommend_batch
from .frames import Batch as Batch
from .frames import History as History
from .frames import encode_frame as encode_frame
from .log import InteractionLog as InteractionLog
from .ope.report import evaluate_policy as evaluate_policy

__version__: str
