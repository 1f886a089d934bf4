"""Published layouts as declarations: which files, which columns mean what, and whom to cite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from recgym.datasets import layout_readers as readers
from recgym.datasets.layout_readers import Part, Side


@dataclass(frozen=True)
class Layout:
    """How a data set is published."""

    name: str
    parts: Mapping[str, tuple[Part, ...]]  # what `part=` may be, the first by default -> files read one after the other
    content: str  # in words, for listings, like the three below
    licence: str
    citation: str
    url: str
    separator: str = ","
    time_unit: str | None = None
    time_kind: pa.DataType = field(default_factory=pa.int64)
    transform: str = "raw"  # default of `reward=`
    feedback: tuple[str, ...] = ()  # columns that may be the reward, the first by default
    items: Side | None = None
    users: Side | None = None
    needs_path: bool = False  # whether it is a way of writing any data set, found by `path=` alone
    category: bool = False  # whether files are found by `category=`


def _kuairand(size: str, content: str) -> Layout:
    feedback = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")
    own = (*feedback, "is_rand", "tab")
    columns = {"user": "user_id", "item": "video_id", "time": "time_ms", **{name: name for name in own}}
    standard = tuple(Part(f"log_standard_{days}_{size}.csv", columns) for days in ("4_08_to_4_21", "4_22_to_5_08"))
    random = (Part(f"log_random_4_22_to_5_08_{size}.csv", columns),)
    return Layout(
        f"kuairand-{size}",
        {"standard": standard, "random": random, "all": (*standard, *random)},
        content,
        "CC BY-SA 4.0",
        "Gao et al. 2022, KuaiRand: an unbiased sequential recommendation dataset with randomly exposed videos, CIKM",
        "https://kuairand.com",
        time_unit="ms",
        feedback=feedback,
        items=Side(f"video_features_basic_{size}.csv", "video_id", features=("author_id", "video_type", "tag")),
        users=Side(f"user_features_{size}.csv", "user_id", features=("user_active_degree", "is_video_author")),
    )


_STARS = {"user": "user_id", "item": "parent_asin", "reward": "rating", "time": "timestamp"}
_WATCHED = {"user": "user_id", "item": "video_id", "reward": "watch_ratio"}
_CLICKS = {"user": "session", "item": "item", "time": "time"}
_NEWS = ("news", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")

LAYOUTS = {
    one.name: one
    for one in (
        Layout(
            "recbole",
            {"all": (Part("*.inter", {}),)},  # its typed header line says the rest
            "any, as atomic files",
            "of each data set its own",
            "Zhao et al. 2021, RecBole: towards a unified, comprehensive and efficient framework, CIKM",
            "https://recbole.io/dataset_list.html",
            separator="\t",
            time_kind=pa.float64(),
            transform="auto",
            needs_path=True,
        ),
        Layout(
            "sasrec",
            {"all": (Part("*.txt", {"user": "user", "item": "item"}, ("user", "item")),)},
            "any, a line `user item` an event",
            "of each data set its own",
            "Kang & McAuley 2018, Self-attentive sequential recommendation, ICDM",
            "https://github.com/kang205/SASRec",
            separator=" ",
            needs_path=True,
        ),
        Layout(
            "lightgcn",
            {
                name: tuple(Part(f"{one}.txt", {}, read=readers.item_lists) for one in files)
                for name, files in (("train", ["train"]), ("test", ["test"]), ("all", ["train", "test"]))
            },
            "any, a line `user item item ...` a user",
            "of each data set its own",
            "He et al. 2020, LightGCN: simplifying and powering graph convolution network for recommendation, SIGIR",
            "https://github.com/kuandeng/LightGCN",
            separator=" ",
            needs_path=True,
        ),
        Layout(
            "amazon-2023",
            {
                "reviews": (Part("{category}.jsonl*", _STARS),),
                "ratings": (Part("{category}.csv*", _STARS),),
                **{name: (Part(f"{{category}}.{name}.csv*", _STARS),) for name in ("train", "valid", "test")},
            },
            "571.54 M reviews in 33 categories",
            "none stated; for research, see its page",
            "Hou et al. 2024, Bridging language and items for retrieval and recommendation, arXiv:2403.03952",
            "https://amazon-reviews-2023.github.io",
            time_unit="ms",
            transform="scaled",
            items=Side("meta_{category}.jsonl*", "parent_asin", "title", ("main_category",)),
            category=True,
        ),
        _kuairand("pure", "standard and randomly exposed views"),
        _kuairand("1k", "standard and randomly exposed views of 1,000 users"),
        Layout(
            "kuairec",
            {
                "big": (Part("big_matrix.csv", _WATCHED | {"time": "timestamp"}),),
                "small": (Part("small_matrix.csv", _WATCHED),),  # some of its rows lack a time
            },
            "12,530,806 views; 4,676,570 of a full matrix",
            "CC BY-SA 4.0",
            "Gao et al. 2022, KuaiRec: a fully-observed dataset and insights for evaluating recommender systems, CIKM",
            "https://kuairec.com",
            time_unit="s",
            time_kind=pa.float64(),
            items=Side("item_categories.csv", "video_id", features=("feat",)),
            users=Side("user_features.csv", "user_id", features=("user_active_degree", "is_video_author")),
        ),
        Layout(
            "yoochoose",
            {
                "all": (
                    Part("yoochoose-clicks.dat", _CLICKS, ("session", "time", "item", "category"), "click"),
                    Part("yoochoose-buys.dat", _CLICKS, ("session", "time", "item", "price", "quantity"), "buy"),
                ),
                "clicks": (Part("yoochoose-clicks.dat", _CLICKS, ("session", "time", "item", "category"), "click"),),
            },
            "clicks and purchases; a user is a session",
            "for research, see its README",
            "Ben-Shimon et al. 2015, RecSys Challenge 2015 and the YOOCHOOSE dataset, RecSys",
            "https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
            time_kind=pa.timestamp("ns", "UTC"),
            transform="label:click=1,buy=3",
        ),
        Layout(
            "retailrocket",
            {
                "all": (
                    Part(
                        "events.csv",
                        {"user": "visitorid", "item": "itemid", "time": "timestamp", "behaviour": "event"},
                    ),
                )
            },
            "2,756,101 views, carts and purchases",
            "see its page",
            "Retailrocket 2015, Recommender system dataset, Kaggle",
            "https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
            time_unit="ms",
            transform="label:view=1,addtocart=2,transaction=3",
        ),
        Layout(
            "lastfm-2k",
            {"all": (Part("user_artists.dat", {"user": "userID", "item": "artistID", "reward": "weight"}),)},
            "92,834 listening counts, no times",
            "Last.fm: for non-commercial use",
            "Cantador, Brusilovsky & Kuflik 2011, 2nd workshop on information heterogeneity and fusion, RecSys",
            "https://grouplens.org/datasets/hetrec-2011",
            separator="\t",
            transform="log1p",
            items=Side("artists.dat", "id", "name"),
        ),
        Layout(
            "mind",
            {"all": (Part("behaviors.tsv", {}, read=readers.impressions),)},
            "15 M impressions of 1 M users; small: 50,000 users",
            "Microsoft Research License Terms",
            "Wu et al. 2020, MIND: a large-scale dataset for news recommendation, ACL",
            "https://msnews.github.io",
            separator="\t",
            time_unit="s",
            items=Side("news.tsv", "news", "title", ("category", "subcategory"), _NEWS),
        ),
    )
}
