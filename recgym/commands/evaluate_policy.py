"""`python -m recgym evaluate-policy --data LOG --policy package.module:Name`: the table of a policy for a log."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recgym import data_source
from recgym.errors import DataError

if TYPE_CHECKING:
    from recgym.evaluation.policies import StochasticPolicy
    from recgym.frames import History
    from recgym.log import InteractionLog

INTERVALS = ("bootstrap", "bernstein")
_SHORT = {"gru": "agents.sequence:SequenceModel"}  # behaviour models by a shorter name
_EPILOG = """\
POLICY is the folder of a trained agent (a run, a checkpoint, what agents.save wrote), or names, in a module that Python
finds from here, one of

  a class with fit(log)          e.g. recgym.policies:Popularity, agents.baselines:EASE; it is fitted on every second
                                 session and evaluated on the others
  any other class or a function  called with the log; returns a policy or a scorer
  a policy or a scorer           taken as it is

A policy has item_ids, reward and probabilities(history, allowed) -> (B, n_items); a scorer has item_ids, reward and
scores(history) -> (B, n_items) and becomes a softmax with --temperature and --epsilon (recgym.SoftmaxPolicy). item_ids
and reward must be those of the log. LOG with slates must be a folder written by recgym.collect(...).save(folder), or
have its columns. Of a log without propensities they are estimated, and the table says how far they could be off.
Exit code 1 where log and policy do not fit, or propensities are impossible.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `evaluate-policy`."""
    parser.epilog, parser.formatter_class = _EPILOG, argparse.RawDescriptionHelpFormatter
    data_source.add_arguments(parser, also=["--log"])
    parser.add_argument(
        "--policy",
        required=True,
        nargs="+",
        help="folder of a run, or package.module:Name of a policy, a scorer, or a class of one; of several, a table "
        "says which earn more than what was logged",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="where the policy is a scorer: softmax temperature of its scores, standardised; inf is the uniform policy "
        "(default: %(default)s)",
    )
    parser.add_argument("--epsilon", type=float, default=0.0, help="share of uniform choices, likewise")
    parser.add_argument("--gamma", type=float, default=1.0, help="discount per step (default: %(default)s)")
    parser.add_argument(
        "--interval",
        choices=INTERVALS,
        default="bootstrap",
        help="bootstrap over people, or empirical Bernstein: wide, but valid for any number of sessions",
    )
    parser.add_argument(
        "--behaviour",
        help="what estimates the propensities of a log that has none: logistic, popularity, gru, or "
        "package.module:Name of a class with fit(log) (default: logistic); every row then says that they are estimated",
    )
    parser.add_argument(
        "--context", nargs="*", default=[], help="columns of the log that the behaviour model may know, beside the past"
    )
    parser.add_argument(
        "--repeats",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether policies may show an item again that a session met; auto: if the log ever does",
    )
    parser.add_argument("--max-history", type=int, help="events of the past that the policy is shown")


def run(options: argparse.Namespace) -> int:
    """Prints the table; returns 0."""
    from recgym.ope.report import evaluate_policy

    source = data_source.source_of(options)
    own = not source.is_name or source.dataset == "table"
    log = source.load(
        **({"transform": "raw"} if own and source.transform is None else {})
    )  # values in the file's units
    made = [build_policy(name, log, options.temperature, options.epsilon) for name in options.policy]
    log = min((part for _, part in made), key=lambda part: part.n_users)  # where one was fitted on the other half
    behaviour = options.behaviour or (None if log.propensities is not None or "step" in log.extra else "logistic")
    if behaviour is not None and ":" in (behaviour := _SHORT.get(behaviour, behaviour)):
        behaviour = named(behaviour, "a behaviour model")
    wishes = {"gamma": options.gamma, "max_history": options.max_history, "interval": options.interval}
    wishes |= {"behaviour": behaviour, "context": options.context}
    wishes |= {"repeats": {"yes": True, "no": False}.get(options.repeats)}
    if len(made) == 1:
        print(f"{log}\n{evaluate_policy(log, made[0][0], **wishes)}")
        return 0
    from recgym.ope.candidates import compare_candidates

    named_policies = {name: policy for name, (policy, _) in zip(options.policy, made, strict=True)}
    print(f"{log}\n{compare_candidates(log, named_policies, **wishes)}")
    return 0


def build_policy(
    name: str, log: InteractionLog, temperature: float, epsilon: float
) -> tuple[StochasticPolicy, InteractionLog]:
    """Returns the policy that `name` (a folder, or `package.module:Name`) stands for and the log to evaluate it on.

    A class with `fit` is fitted on every second session and evaluated on the others, as a policy looks better than it
    is on what it has learned from; any other class or function is called with the log. A scorer becomes a
    `SoftmaxPolicy`.
    """
    from recgym.evaluation.policies import SoftmaxPolicy, StochasticPolicy
    from recgym.scorers import Scorer

    if Path(name).is_dir():
        return SoftmaxPolicy(_of_run(name, log), temperature, epsilon, standardise=True), log
    found = named(name)
    if inspect.isclass(found) and hasattr(found, "fit"):
        half = np.arange(log.n_users) % 2 == 0
        found = found.fit(log.select_users(np.flatnonzero(half)))
        log = log.select_users(np.flatnonzero(~half))
        print(f"fitted on every second session, evaluated on the {log.n_users:,} others")
    elif not isinstance(found, StochasticPolicy | Scorer) or inspect.isclass(found):
        found = _called(name, found, log)
    if isinstance(found, Scorer) and not isinstance(found, StochasticPolicy):
        found = SoftmaxPolicy(found, temperature, epsilon, standardise=True)
    if not isinstance(found, StochasticPolicy):
        raise DataError(
            f"a policy must have item_ids, reward and probabilities(history, allowed) or scores(history), got "
            f"{type(found).__name__}; see recgym.evaluation.policies.StochasticPolicy"
        )
    return found, log


def named(name: str, what: str = "a policy") -> Any:
    """Returns what stands under a name in a module that Python finds from here."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise DataError(f"{what} must be named as package.module:Name, got {name!r} ({error}); check it") from None
    finally:
        sys.path.pop(0)


def _of_run(folder: str, log: InteractionLog) -> Any:
    """Returns the agent of a folder; one that knows users is told whose the log's sessions are, if it is known."""
    from recgym.commands.runs import load_run
    from recgym.serving.served import OwnUsers

    agent = load_run(folder)
    people = log.users.get("user_id")
    own = OwnUsers(agent, [None] * log.n_users if people is None else people.tolist())
    return own if agent.reward == log.reward else _InItsUnits(own, log)


class _InItsUnits:
    """A scorer for a log whose rewards are what stands in the file: it is shown histories in the units it knows."""

    def __init__(self, scorer: Any, log: InteractionLog) -> None:
        from recgym.serving.whole_log import in_units_of

        self.scorer, self.item_ids, self.reward = scorer, scorer.item_ids, log.reward
        self._known = in_units_of(scorer.reward, log)

    def scores(self, history: History) -> Any:
        """Returns the scorer's scores (B, n_items)."""
        real = np.asarray(history.items) < len(self.item_ids)
        return self.scorer.scores(history._replace(rewards=np.where(real, self._known(history.rewards), np.float32(0))))


def _called(name: str, found: Any, log: InteractionLog) -> Any:
    """Returns what a class or function makes of the log, after checking that the log is all it asks for."""
    what = "a policy must be named as a policy, a scorer, or what makes one of the log alone"
    if not callable(found):
        raise DataError(f"{what}, got {type(found).__name__} for {name}; see --help")
    try:
        inspect.signature(found).bind(log)
    except TypeError as error:
        raise DataError(f"{what}, got {name} ({error}); name a function of the log that returns it") from None
    except ValueError:  # a builtin that tells no signature
        pass
    try:
        return found(log)
    except Exception as error:  # somebody's code, or a class of ours that is made of something else: nearly anything
        why = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"{what}, got {name}, which refuses it ({why}); name a function of the log") from error
