"""Each published layout loads to hand-written events, from a small fake and, where it is here, from the real file."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from recgym import datasets
from recgym.datasets import published
from recgym.datasets.layouts import LAYOUTS
from recgym.errors import DataError, MissingDataError, OptionError

REAL = Path(os.environ.get("RECGYM_DATA", "/nowhere"))


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("RECGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECGYM_DATA", str(tmp_path / "data"))
    datasets._opened.cache_clear()
    return tmp_path / "data"


def put(folder, **files):
    """Writes files; in their names, two underscores are a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        lines = content if isinstance(content, bytes) else "\n".join(content).encode() + b"\n"
        (folder / name.replace("__", ".")).write_bytes(lines)
    return folder


def events(log, *more):
    """The events of a log: (user id, item id, reward, time and further columns), user by user, oldest first."""
    rewards = log.rewards.astype(np.float64).round(3)
    columns = [log.user_ids[log.event_users()], log.item_ids[log.items], rewards]
    columns += [] if log.times is None else [log.times]
    columns += [log.extra[name] for name in more]
    return list(zip(*(column.tolist() for column in columns), strict=True))


# -- ways of writing any data set --------------------------------------------------------------------------------------


def recbole(folder):
    return put(
        folder,
        toy__inter=[
            "user_id:token\titem_id:token\trating:float\ttimestamp:float",
            "196\t242\t3\t881250949",
            "186\t302\t3.5\t891717742",
            "196\t302\t5\t881250948",
        ],
        toy__item=[
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
            '242\t"Kolya\t1996\tComedy',
            "302\tL.A. Confidential\t1997\tCrime Film-Noir",
            "7\tUnseen\t1990\tDrama",
        ],
        toy__user=["user_id:token\tage:token\tgender:token", "186\t39\tF", "196\t49\tM"],
    )


@pytest.mark.parametrize("address", ["folder", "file", "plain"])
def test_recbole_atomic_files(address, tmp_path):
    folder = recbole(tmp_path / "toy")
    if address == "plain":
        log = datasets.load(str(folder / "toy.inter"))
    else:
        log = datasets.load("recbole", path=folder if address == "folder" else folder / "toy.inter")
    assert log.reward == "scaled"
    assert events(log) == [(186, 302, 0.4, 891717742), (196, 302, 1.0, 881250948), (196, 242, 0.2, 881250949)]
    assert log.titles.tolist() == ['"Kolya', "L.A. Confidential"]
    assert {name: column.tolist() for name, column in log.item_features.items()} == {
        "release_year": [1996, 1997],
        "class": ["Comedy", "Crime Film-Noir"],
    }
    assert {name: column.tolist() for name, column in log.users.items()} == {"age": [39, 49], "gender": ["F", "M"]}
    assert log.name == "toy"


def test_recbole_files_with_other_names(tmp_path):
    lines = ["uid:token\tartist_id:token\tplays:float\tlabel:float", "a\tx\t3\t1", "b\ty\t5\t0"]
    folder = put(tmp_path, fm__inter=lines)
    assert events(datasets.load("recbole", path=folder)) == [("a", "x", 1.0), ("b", "y", 1.0)]  # an implicit log
    log = datasets.load("recbole", path=folder, feedback="plays", reward="binary:4")
    assert events(log) == [("a", "x", 0.0), ("b", "y", 1.0)]
    with pytest.raises(
        DataError, match=r"must have columns of users and items, got uid, artist_id, plays, label; name"
    ):
        datasets.load("recbole", path=folder, item="song")
    put(tmp_path, more__inter=lines)
    with pytest.raises(DataError, match=r"must be one file \*\.inter, got 2 in .*fm\.inter and more\.inter; name one"):
        datasets.load("recbole", path=folder)
    put(tmp_path, bad__inter=["user_id\titem_id", "1\t2"])
    with pytest.raises(DataError, match="must name columns with their types, as user_id:token"):
        datasets.load("recbole", path=folder / "bad.inter")


def test_sasrec_text(tmp_path):
    put(tmp_path, beauty__txt=["1 12", "1 3", "2 3", "1 12"])
    log = datasets.load("sasrec", path=tmp_path / "beauty.txt")
    assert events(log) == [(1, 12, 1.0), (1, 3, 1.0), (1, 12, 1.0), (2, 3, 1.0)]
    assert (log.name, log.times) == ("beauty", None)


def test_lightgcn_text(tmp_path):
    put(tmp_path, train__txt=["0 5 7", "1 7", "2"], test__txt=["0 9", "1 ", "2 5"])
    assert events(datasets.load("lightgcn", path=tmp_path)) == [(0, 5, 1.0), (0, 7, 1.0), (1, 7, 1.0)]
    assert events(datasets.load("lightgcn", path=tmp_path, part="test")) == [(0, 9, 1.0), (2, 5, 1.0)]
    whole = [(0, 5, 1.0), (0, 7, 1.0), (0, 9, 1.0), (1, 7, 1.0), (2, 5, 1.0)]
    assert events(datasets.load("lightgcn", path=tmp_path, part="all")) == whole
    put(tmp_path, train__txt=["0 5 x"])
    with pytest.raises(DataError, match=r"must hold whole numbers, .* got '0 5 x' in line 1"):
        datasets.load("lightgcn", path=tmp_path)


# -- data sets ---------------------------------------------------------------------------------------------------------

_REVIEWS = [
    {"rating": 5.0, "title": "Good", "parent_asin": "B0", "user_id": "AE", "timestamp": 1588687728923},
    {"rating": 2.0, "title": "Bad", "images": [1], "parent_asin": "B2", "user_id": "AE", "timestamp": 1588687720000},
    {"rating": 4.0, "title": "", "images": [], "parent_asin": "B0", "user_id": "AF", "timestamp": 1595000000123},
]  # fmt: skip
_META = [
    {"main_category": "Beauty", "title": "Soap", "parent_asin": "B0", "details": {"x": "y"}},
    {"main_category": None, "title": "Brush", "parent_asin": "B2", "details": {}},
    {"main_category": "Beauty", "title": "Unseen", "parent_asin": "B9", "details": {}},
]


@pytest.mark.parametrize("packed", [False, True])
def test_amazon_reviews(packed, data):
    def lines(rows):
        text = "\n".join(map(json.dumps, rows)).encode()
        return gzip.compress(text) if packed else text

    ending = "jsonl__gz" if packed else "jsonl"
    put(data / "amazon-2023", **{f"All_Beauty__{ending}": lines(_REVIEWS), f"meta_All_Beauty__{ending}": lines(_META)})
    log = datasets.load("amazon-2023", category="All_Beauty", reward="raw")
    assert events(log) == [("AE", "B2", 2.0, 1588687720), ("AE", "B0", 5.0, 1588687728), ("AF", "B0", 4.0, 1595000000)]
    assert log.titles.tolist() == ["Soap", "Brush"]
    assert log.item_features["main_category"].tolist() == ["Beauty", ""]


def test_amazon_5_core_tables(data):
    head = "user_id,parent_asin,rating,timestamp"
    put(
        data / "amazon-2023" / "5core",
        Books__csv=[head, "AE,B0,5.0,1588687728923", "AE,B2,2.0,1588687720000"],
        Books__train__csv=[f"{head},history", "AE,B2,2.0,1588687720000,", "AE,B0,5.0,1588687728923,B2"],
        Toys__csv=[head, "AZ,B7,1.0,1588687728923"],
    )
    wanted = [("AE", "B2", -0.2, 1588687720), ("AE", "B0", 1.0, 1588687728)]
    assert events(datasets.load("amazon-2023", category="Books", part="train")) == wanted
    path = data / "amazon-2023" / "5core" / "Books.csv"
    assert events(datasets.load("amazon-2023", path=path)) == wanted
    assert events(datasets.load("amazon-2023", category="Toys", part="ratings")) == [("AZ", "B7", -0.6, 1588687728)]


_RAND = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)


@pytest.mark.parametrize("size", ["pure", "1k"])
def test_kuairand(size, data):
    folder = data / f"KuaiRand-{size.title()}" / "data"
    first, then = "0,10,20220408,0,1649347200123,1,0,0,0,0,0,1", "0,11,20220422,0,1650600000000,0,0,0,0,0,0,0"
    put(folder, **{f"log_standard_4_08_to_4_21_{size}__csv": [_RAND, f"{first},9,9,0,0,0,0,1"]})
    put(folder, **{f"log_standard_4_22_to_5_08_{size}__csv": [_RAND, f"{then},9,9,0,0,0,0,1"]})
    shown = "0,12,20220422,0,1650500000000,0,1,0,0,0,0,0,9,9,0,0,0,1,2"
    put(folder, **{f"log_random_4_22_to_5_08_{size}__csv": [_RAND, shown]})
    head = "user_id,user_active_degree,is_lowactive_period,is_video_author"
    put(folder, **{f"user_features_{size}__csv": [head, "0,full_active,0,1"]})
    videos = ["video_id,author_id,video_type,upload_dt,tag", '10,5,NORMAL,2022-04-01,"8,9"', "12,,AD,,3"]
    put(folder, **{f"video_features_basic_{size}__csv": videos})
    log = datasets.load(f"kuairand-{size}", part="all")
    exposure = [(0, 10, 1.0, 1649347200, 1, 0, 0), (0, 12, 0.0, 1650500000, 0, 1, 1), (0, 11, 0.0, 1650600000, 0, 0, 0)]
    assert events(log, "is_click", "is_like", "is_rand") == exposure
    assert log.users["user_active_degree"].tolist() == ["full_active"] and log.users["is_video_author"].tolist() == [1]
    assert log.item_features["tag"].tolist() == ["8,9", "", "3"]
    np.testing.assert_array_equal(log.item_features["author_id"], [5, np.nan, np.nan])
    assert events(datasets.load(f"kuairand-{size}", part="random", feedback="is_like")) == [(0, 12, 1.0, 1650500000)]
    assert datasets.load(f"kuairand-{size}").n_events == 2
    with pytest.raises(DataError, match=r"feedback must be one of .*'long_view'.*, got 'stars'"):
        datasets.load(f"kuairand-{size}", feedback="stars")


def test_kuairec(data):
    head = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
    put(
        data / "KuaiRec" / "data",
        big_matrix__csv=[
            head,
            "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.27",
            "0,9598,13665,10984,2020-07-05 00:13:41.297,20200705,1593878800.0,1.25",
        ],
        small_matrix__csv=[head, "14,148,4381,6067,2020-07-05 05:27:48,20200705,1593898068.3,0.72", "14,5,1,2,,,,0.5"],
        item_categories__csv=["video_id,feat", "0,[8]", '3649,"[27, 9]"', "9598,[9]"],
        user_features__csv=["user_id,user_active_degree,is_lowactive_period,is_video_author", "0,high_active,0,0"],
    )  # fmt: skip
    log = datasets.load("kuairec")
    assert events(log) == [(0, 9598, 1.25, 1593878800), (0, 3649, 1.27, 1593878903)]
    assert log.item_features["feat"].tolist() == ["[27, 9]", "[9]"]
    assert log.users["user_active_degree"].tolist() == ["high_active"]
    assert events(datasets.load("kuairec", part="small")) == [(14, 148, 0.72), (14, 5, 0.5)]  # in the order of the file


def test_yoochoose(data):
    put(
        data / "yoochoose",
        **{
            "yoochoose-clicks__dat": [
                "1,2014-04-07T10:51:09.277Z,214536502,0",
                "1,2014-04-07T10:54:09.868Z,214536500,S",
                "2,2014-04-07T13:56:37.614Z,214662742,0",
            ],
            "yoochoose-buys__dat": ["1,2014-04-07T10:53:00.000Z,214536502,12462,1"],
        },
    )
    wanted = [
        (1, 214536502, 1.0, 1396867869, "click"),
        (1, 214536502, 3.0, 1396867980, "buy"),
        (1, 214536500, 1.0, 1396868049, "click"),
        (2, 214662742, 1.0, 1396878997, "click"),
    ]
    assert events(datasets.load("yoochoose"), "behaviour") == wanted
    clicks = datasets.load("yoochoose", part="clicks", reward="label:click=2")
    assert [event[2] for event in events(clicks)] == [2.0, 2.0, 2.0]
    with pytest.raises(DataError, match="a transform like 'label:click=1,buy=3', got 'raw'"):
        datasets.load("yoochoose", reward="raw")


def test_retailrocket(data):
    lines = [
        "timestamp,visitorid,event,itemid,transactionid",
        "1433221332117,257597,view,355908,",
        "1433224214164,992329,view,248676,",
        "1433221999827,257597,transaction,355908,4000",
    ]
    put(data / "retailrocket", events__csv=lines)
    assert events(datasets.load("retailrocket"), "behaviour") == [
        (257597, 355908, 1.0, 1433221332, "view"),
        (257597, 355908, 3.0, 1433221999, "transaction"),
        (992329, 248676, 1.0, 1433224214, "view"),
    ]


def test_lastfm(data):
    put(
        data / "lastfm-2k",
        user_artists__dat=["userID\tartistID\tweight", "2\t51\t13883", "2\t52\t11690", "3\t51\t1"],
        artists__dat=["id\tname\turl\tpictureURL", '51\tDuran "Duran\thttp://a\thttp://b', "52\tMorcheeba\thttp://a\t"],
    )
    assert datasets.load("lastfm-2k").reward == "log1p"
    log = datasets.load("lastfm-2k", reward="raw")
    assert events(log) == [(2, 51, 13883.0), (2, 52, 11690.0), (3, 51, 1.0)]
    assert log.titles.tolist() == ['Duran "Duran', "Morcheeba"]


def test_mind(data):
    put(
        data / "MIND",
        behaviors__tsv=[
            "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0",
            "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0",
            "3\tU13740\t11/11/2019 12:00:00 AM\tN1\tN35729-1",
        ],
        news__tsv=[
            'N55689\tsports\tfootball\tCharles "Rogers dies\t\thttp://a\t[]\t[]',
            "N35729\tnews\tnewsworld\tPorsche\tAn abstract\thttp://a\t[]\t[]",
        ],
    )
    log = datasets.load("mind")
    assert events(log, "impression") == [
        ("U13740", "N35729", 1.0, 1573430400, 3),
        ("U13740", "N55689", 1.0, 1573463158, 1),
        ("U13740", "N35729", 0.0, 1573463158, 1),
        ("U91836", "N20678", 0.0, 1573582290, 2),
    ]
    assert log.titles.tolist() == ["N20678", "Porsche", 'Charles "Rogers dies']
    assert log.item_features["subcategory"].tolist() == ["", "newsworld", "football"]
    put(data / "MIND", behaviors__tsv=["1\tU1\t11/11/2019 9:05:58 AM\t\tN1 N2"])
    with pytest.raises(DataError, match=r"user, time, history, and news marked -0 or -1, got .* line 1"):
        datasets.load("mind")
    put(data / "MIND", behaviors__tsv=["1\tU1\t2019-11-11\t\tN1-1"])
    with pytest.raises(DataError, match=r"hold a time like 11/13/2019 8:36:57 AM, got .* line 1"):
        datasets.load("mind")


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_not_here_says_where_to_get_it(name):
    with pytest.raises(MissingDataError, match=f"{name} must be on this machine, got no .*; get it from https://"):
        datasets.load(name)
    with pytest.raises(OptionError, match=f"options of {name} must be among path, part, .*, got splat"):
        datasets.load(name, splat=1)
    with pytest.raises(DataError, match="part must be one of"):
        datasets.load(name, part="fifth")


def test_filters_and_what_lacks_values(data):
    head = "timestamp,visitorid,event,itemid,transactionid"
    lines = [f"{1433221332000 + 1000 * k},{k % 3},view,{k % 4}," for k in range(11)] + ["1433224214164,7,view,,"]
    put(data / "retailrocket", events__csv=[head, *lines])
    with pytest.raises(DataError, match=r"column 'item' of .*events\.csv must be filled in .* in line 13"):
        datasets.load("retailrocket")
    log = datasets.load("retailrocket", missing="drop", min_events=4, top_items=4)
    assert (log.n_users, log.n_events, log.lengths.min()) == (2, 8, 4)


@pytest.mark.skipif(not (REAL / "ml-1m" / "sasrec" / "ml-1m.txt").is_file(), reason="needs ml-1m in RECGYM_DATA")
def test_the_real_sasrec_file():
    log = datasets.load("sasrec", path=REAL / "ml-1m" / "sasrec" / "ml-1m.txt")
    assert (log.n_events, log.n_users, log.n_items) == (999_611, 6_040, 3_416)
    lines = (REAL / "ml-1m" / "sasrec" / "ml-1m.txt").read_text().split("\n", 200)[:200]
    first = [tuple(map(int, line.split())) for line in lines]
    mine = [item for user, item in first if user == 1]
    assert log.item_ids[log.user(0).items][: len(mine)].tolist() == mine


@pytest.mark.skipif(not (REAL / "ml-100k" / "u.data").is_file(), reason="needs ml-100k in RECGYM_DATA")
def test_a_real_set_as_recbole_writes_it(tmp_path):
    rows = (REAL / "ml-100k" / "u.data").read_text()
    (tmp_path / "ml-100k.inter").write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + rows)
    log = datasets.load("recbole", path=tmp_path)
    wanted = datasets.load("table", path=_named(tmp_path, rows), user="u", item="i", reward="r", time="t")
    for column in ("items", "rewards", "times", "offsets", "user_ids", "item_ids"):
        np.testing.assert_array_equal(getattr(log, column), getattr(wanted, column))


def _named(folder, rows):
    (folder / "u.csv").write_text("u,i,r,t\n" + rows.replace("\t", ","))
    return folder / "u.csv"


def test_layouts_are_cited_and_listed(capsys):
    from recgym.__main__ import main

    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for layout in LAYOUTS.values():
        assert layout.content and layout.licence and layout.citation and layout.url.startswith("https://")
        assert f"  {layout.name} " in said and layout.citation in said
    assert published.known_options("kuairand-pure")["feedback"] == "is_click"
