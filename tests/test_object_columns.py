"""Columns of a DataFrame that hold any Python values: of one kind, or refused with two values and their rows."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from recgym import datasets
from recgym.errors import DataError

ZONED, PLAIN = pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-02")


def load(**columns):
    given = {"u": [1, 2], "i": [1, 2], "t": [1_704_067_200, 1_704_153_600], "r": [1.0, 0.0]} | columns
    made = (pd.Series, np.ndarray)
    frame = pd.DataFrame(
        {name: one if isinstance(one, made) else pd.Series(one, dtype=object) for name, one in given.items()}
    )
    return datasets.load("table", path=frame, user="u", item="i", time="t", reward="r", transform="raw")


@pytest.mark.parametrize(
    "values, told",
    [
        ([ZONED, PLAIN], r"a time with a zone \(2024-01-01 00:00:00\+00:00\) in row 0 and a time without a zone"),
        ([PLAIN, 1_704_067_200], r"a time without a zone \(2024-01-02 00:00:00\) in row 0 and a number \(1704067200\)"),
        ([1_704_067_200, "2024-01-02"], r"a number \(1704067200\) in row 0 and text \(2024-01-02\) in row 1"),
        ([PLAIN, "2024-01-02"], r"a time without a zone .* in row 0 and text"),
        ([True, 1_704_067_200], r"true or false \(True\) in row 0 and a number"),
        ([date(2024, 1, 1), 1_704_067_200], r"a day \(2024-01-01\) in row 0 and a number"),
    ],
)
def test_times_of_several_kinds_are_refused(values, told):
    with pytest.raises(DataError, match=f"column 't' of the DataFrame must hold values of one kind, got {told}"):
        load(t=values)


@pytest.mark.parametrize(
    "values",
    [
        [datetime(2024, 1, 1), date(2024, 1, 2)],
        [ZONED, pd.Timestamp("2024-01-02 01:00", tz="Europe/Berlin")],
        [date(2024, 1, 1), date(2024, 1, 2)],
        [Decimal(1_704_067_200), 1_704_153_600],
    ],
)
def test_times_of_one_kind_are_read(values):
    assert load(t=values).times.tolist() == [1_704_067_200, 1_704_153_600]


def test_a_time_beside_a_day_keeps_its_hours():
    """Arrow takes such a column for days."""
    times = load(t=[date(2024, 1, 1), datetime(2024, 1, 1, 3)]).times
    assert times.tolist() == [1_704_067_200, 1_704_067_200 + 3 * 3600]
    zoned = [date(2024, 1, 1), pd.Timestamp("2024-01-01 03:00", tz="UTC")]
    assert load(t=zoned).times.tolist() == times.tolist()
    other = [np.datetime64("2024-01-01"), np.datetime64("2024-01-01T03:00", "ns")]
    assert load(t=other).times.tolist() == times.tolist()


@pytest.mark.parametrize("true", [True, np.True_])
def test_truth_values_are_no_ids_among_numbers(true):
    with pytest.raises(DataError, match=r"column 'u' .* whole numbers or text as ids, got True in row 0"):
        load(u=[true, 1])


@pytest.mark.parametrize(
    "values, ids",
    [
        ([UUID(int=1), str(UUID(int=1))], [str(UUID(int=1))]),
        ([np.int64(1), "1"], ["1"]),
        ([Decimal(1), 1], [1]),
        (np.array([1, 2], np.longdouble), [1, 2]),
        (pd.Series(pd.Categorical(pd.Series([7, "7"], dtype=object))), ["7"]),
    ],
)
def test_one_value_in_two_kinds_is_one_id(values, ids):
    assert load(u=values).user_ids.tolist() == ids


def test_text_that_cannot_be_written_is_named():
    with pytest.raises(DataError, match=r"column 'u' .* text of whole letters, got 'a\\ud800' in row 1"):
        load(u=["a", "a\ud800"])


@pytest.mark.parametrize(
    "values, told",
    [
        ([True, 2], r"must hold values of one kind, got true or false \(True\) in row 0 and a number \(2\) in row 1"),
        ([2, True], r"must hold values of one kind, got a number \(2\) in row 0 and true or false \(True\) in row 1"),
        ([1, "2"], r"must hold values of one kind, got a number \(1\) in row 0 and text \(2\) in row 1"),
        (np.array([1j, 2]), "must hold values of one kind that a table can hold, got complex128; convert it"),
    ],
)
def test_rewards_of_several_kinds_are_refused_in_plain_words(values, told):
    with pytest.raises(DataError, match=f"column 'r' of the DataFrame {told}"):
        load(r=values)


def test_categories_that_are_numbers_are_rewards():
    assert load(r=pd.Series(pd.Categorical([3.0, 1.5]))).rewards.tolist() == [3.0, 1.5]
