"""The version matrix runs what it says it runs."""

import os

import gymnasium
import pytest


@pytest.mark.skipif("EXPECT_GYMNASIUM" not in os.environ, reason="only make test-matrix asks for a version")
def test_the_asked_for_gymnasium_is_used():
    assert gymnasium.__version__ == os.environ["EXPECT_GYMNASIUM"]
