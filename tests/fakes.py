"""MovieLens sets in their published layouts at small size, as folders and as zips."""

import zipfile

CSV_RATINGS = [  # user, movie, rating, timestamp: unsorted in time, ids up to ML-20M's highest
    (1, 2, "3.5", 1112486027),
    (1, 29, "3.5", 1112484676),
    (1, 131262, "0.5", 1112484819),
    (138493, 2, "5.0", 1112484580),
    (138493, 68954, "4.5", 1258126920),
    (2, 29, "4.0", 974820598),
]
CSV_MOVIES = (
    "movieId,title,genres\r\n"
    "2,Jumanji (1995),Adventure|Children|Fantasy\r\n"
    '29,"City of Lost Children, The (Cité des enfants perdus, La) (1995)",Adventure|Drama\r\n'
    '68954,"""Up"" (2009)",Animation\r\n'
    "131262,Innocence (2014),(no genres listed)\r\n"
    "4,Never rated (1995),Comedy\r\n"
)


def csv_layout():
    """Files of ml-latest-small, ml-20m and ml-25m by name, as bytes."""
    lines = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in CSV_RATINGS)]
    return {"ratings.csv": "\r\n".join(lines).encode() + b"\r\n", "movies.csv": CSV_MOVIES.encode()}


def dat_layout():
    """Files of ml-1m."""
    return {
        "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n2::2::1::978298413\n",
        "movies.dat": "2::Léon: The Professional::Drama\n661::A::B (1996)::Comedy\n1193::C (1975)::War|Drama\n".encode(
            "latin-1"
        ),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072\n",
    }


def tab_layout():
    """Files of ml-100k."""
    flags = ["0"] * 19
    action = "|".join([*flags[:1], "1", *flags[2:]])
    both = "|".join([*flags[:3], "1", "1", *flags[5:]])
    return {
        "u.data": b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t5\t881250948\n",
        "u.item": (f"242|Kolya (1996)|24-Jan-1997||http://a|{action}\n302|L'éternité|||http://b|{both}\n").encode(
            "latin-1"
        ),
        "u.user": b"186|39|F|executive|00000\n196|49|M|writer|55105\n",
    }


LAYOUTS = {
    "ml-latest-small": csv_layout,
    "ml-20m": csv_layout,
    "ml-25m": csv_layout,
    "ml-1m": dat_layout,
    "ml-100k": tab_layout,
}


def as_folder(path, files):
    """Writes files below a folder and returns it."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path, files, folder):
    """Writes files into a zip, in a folder inside it as the publisher does, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/", "")
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content)
    return path


def tianchi_layout():
    """Files of Tianchi's shop log, without header lines and in no order."""
    behaviour = [  # user, item, behaviour, seconds: user 7 in two sessions
        *((7, 100, "pv", 10), (7, 101, "cart", 20), (7, 100, "pv", 30), (7, 102, "buy", 9000)),
        *((8, 100, "fav", 5), (8, 103, "pv", 6)),
        *((9, 103, "pv", 40_000), (9, 100, "pv", 40_010), (9, 101, "buy", 40_020)),
    ]
    lines = "".join(f"{user},{item},{what},{when}\n" for user, item, what, when in reversed(behaviour))
    return {
        "user_behavior.csv": lines.encode(),
        "user.csv": b"8,1,29,3\n7,0,30,5\n11,1,50,1\n",
        "item.csv": b"102,5,50,500\n100,4,40,400\n101,4,41,401\n99,9,9,9\n",
    }


def nowplaying_layout():
    """The file of #nowplaying-RS with its audio features among other columns, some of them empty."""
    features = ("instrumentalness", "liveness", "speechiness", "danceability", "valence", "loudness", "tempo")
    features = (*features, "acousticness", "energy", "mode", "key")
    rows = [("coordinates", *features, "artist_id", "created_at", "track_id", "user_id", "time_zone")]
    plays = ((1, "c"), (1, "b"), (1, "a"), (1, "c"), (2, "b"), (2, "d"), (2, "c"), (3, "a"))
    for place, (user, song) in enumerate(plays):
        numbers = [f"0.{ord(song) - 96}{column}" for column in range(9)]
        moment = f"2014-01-0{user} 05:54:{place:02d}"
        rows.append(("", *numbers, "1.0", str(ord(song) - 96), "x", moment, song, str(user), "Quito"))
    rows.append(rows[1])  # one tweet, two hashtags: the same event twice
    rows.append(("", *[""] * 11, "x", "2014-01-01 05:54:59", "e", "1", ""))  # a song without features
    return {"context_content_features.csv": "".join(",".join(row) + "\n" for row in rows).encode()}
