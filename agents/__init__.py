"""Agents for recgym: learners, rankers and the loops that train them."""
