"""The commands of `python -m recgym`, a module for each group of them: options first, and what a command does.

Modules import at their heads what options need; everything heavy is imported by the command that runs.
"""
