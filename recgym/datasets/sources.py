"""The published data sets recgym knows, and where on this machine their files lie."""

from __future__ import annotations

import os
import warnings
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from recgym.datasets.tables.text import Text
from recgym.datasets.tables.zips import open_member, zip_errors
from recgym.errors import HashMismatchError, MissingDataError
from recgym.storage.cache import cache_dir
from recgym.storage.download import Remote, check_hash, fetch

_SITE = "https://files.grouplens.org/datasets/movielens"
_SHARED = (
    "GroupLens: free to use and to pass on under the same terms, not for commercial use; cite Harper & Konstan 2015"
)
_RESEARCH = "GroupLens: free for research, neither to be passed on nor for commercial use; cite Harper & Konstan 2015"


@dataclass(frozen=True)
class Published:
    """A MovieLens set as GroupLens publishes it."""

    name: str
    layout: str  # "csv": ratings.csv; "dat": ratings.dat; "tab": u.data
    lowest: float  # the lowest rating one could give; the highest is 5
    remote: Remote
    content: str  # in words, for listings

    @property
    def events_file(self) -> str:
        """Name of the file that holds the ratings."""
        return {"csv": "ratings.csv", "dat": "ratings.dat", "tab": "u.data"}[self.layout]

    @property
    def ties(self) -> str:
        """Order of a user's events of one second: as in the file, unless that is sorted by movie and tells the ids."""
        return "shuffle" if self.layout == "csv" else "file"


_SHA256 = {  # of the zips, where GroupLens publishes MD5 alone; as the checksums of TensorFlow Datasets have them
    "ml-latest-small": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    "ml-100k": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    "ml-1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    "ml-20m": "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
    "ml-25m": "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
}


def _published(name: str, layout: str, lowest: float, size: int, md5: str, licence: str, content: str) -> Published:
    remote = Remote(f"{_SITE}/{name}.zip", size, f"md5:{md5}", licence, sha256=_SHA256[name])
    return Published(name, layout, lowest, remote, content)


PUBLISHED = {
    one.name: one
    for one in (
        _published(
            "ml-latest-small", "csv", 0.5, 978_202, "31a303aabbc519bd33d025e44d6c2570", _SHARED, "100,836 ratings"
        ),
        _published("ml-100k", "tab", 1.0, 4_924_029, "0e33842e24a9c977be4e0107933c0723", _RESEARCH, "100,000 ratings"),
        _published("ml-1m", "dat", 1.0, 5_917_549, "c4d9eecfca2ab87c1945afe126590906", _RESEARCH, "1,000,209 ratings"),
        _published(
            "ml-20m", "csv", 0.5, 198_702_078, "cd245b17a1ae2cc31bb14903e1204af3", _SHARED, "20,000,263 ratings"
        ),
        _published(
            "ml-25m", "csv", 0.5, 261_978_986, "6b51fb2759a8657d3bfcbfc42b592ada", _SHARED, "25,000,095 ratings"
        ),
    )
}


@dataclass(frozen=True)
class Files:
    """The files of a published set: a folder, or the original zip, whose members are read without unpacking it."""

    name: str
    path: Path  # the folder, or the zip

    @property
    def is_zip(self) -> bool:
        """Whether the files lie in a zip."""
        return not self.path.is_dir()

    def has(self, file: str) -> bool:
        """Returns whether the set holds `file`."""
        return self._member(file) is not None if self.is_zip else (self.path / file).is_file()

    def paths(self, *files: str) -> list[Path]:
        """Returns what lies on the disk for those of `files` that are there."""
        return [self.path] if self.is_zip else [self.path / file for file in files if self.has(file)]

    def text(
        self, file: str, separator: str = ",", encoding: str = "utf-8", names: tuple[str, ...] | None = None
    ) -> Text:
        """Returns `file` as delimited text.

        Raises:
            MissingDataError: if the set lacks the file.
            DataError: if the zip is damaged.
        """
        if not self.is_zip:
            path = self.path / file
            if not path.is_file():
                raise MissingDataError(f"{self.name} must hold {file}, got no such file at {path}; put it there")
            return Text(str(path), partial(_open_file, path), separator, encoding, names)
        member = self._member(file)
        if member is None:
            raise MissingDataError(
                f"{self.name} must hold {file}, got no such member in {self.path}; get the zip again"
            )
        return Text(f"{self.path}:{member}", partial(open_member, self.path, member), separator, encoding, names)

    def _member(self, file: str) -> str | None:
        """Returns the member that is `file`: in the folder named like the set, at the root, or in any one folder."""
        with zip_errors(self.path), zipfile.ZipFile(self.path) as archive:
            members = archive.namelist()
        for member in (f"{self.name}/{file}", file):
            if member in members:
                return member
        elsewhere = [member for member in members if member.count("/") == 1 and member.endswith(f"/{file}")]
        return elsewhere[0] if len(elsewhere) == 1 else None


def data_dir() -> Path | None:
    """Returns the folder `RECGYM_DATA` names, or None where it is not set."""
    chosen = os.environ.get("RECGYM_DATA")
    return Path(chosen).expanduser() if chosen else None


def downloads_dir() -> Path:
    """Returns where downloads go: `downloads` in the cache folder."""
    return cache_dir() / "downloads"


def find(published: Published) -> Files | None:
    """Returns the files of a set on this machine, or None where there are none."""
    name, data = published.name, data_dir()
    if data is not None:
        for folder in (data / name, data / name / name):
            if (folder / published.events_file).is_file():
                return Files(name, folder)
    zips = [downloads_dir() / f"{name}.zip"]
    if data is not None:
        zips = [data / name / f"{name}.zip", data / f"{name}.zip", *zips]
    return next((Files(name, path) for path in zips if path.is_file()), None)


def locate(published: Published, download: bool = False) -> Files:
    """Returns the files of a set on this machine, downloading them first where `download` allows it.

    Raises:
        MissingDataError: if they are not here; the message says where they may be put.
        HashMismatchError: if the download is not the published file.
    """
    found = find(published)
    if found is not None:
        return found
    if download:
        return Files(published.name, fetch(published.remote, downloads_dir()))
    name, data, remote = published.name, data_dir(), published.remote
    place = f"RECGYM_DATA={data}" if data is not None else "the folder RECGYM_DATA names (it is not set)"
    raise MissingDataError(
        f"{name} must be on this machine, got neither {name}/{published.events_file} nor {name}.zip in {place}, "
        f"nor {downloads_dir() / f'{name}.zip'}; put one of them there, or run `python -m recgym fetch {name}` "
        f"({remote.size / 1e6:,.1f} MB; {remote.licence}), or use the data set 'synthetic', which needs no file"
    )


def check_zip(files: Files, remote: Remote) -> None:
    """Warns where a set lies in a zip that is not the published one; for when a log is made of it, not each time."""
    if not files.is_zip:
        return
    try:
        check_hash(files.path, remote, "")
    except HashMismatchError as error:
        told = str(error).rstrip("; ")
        warnings.warn(
            f"{told}; the log is made of what it holds: get the published file unless it is one of your own",
            UserWarning,
            stacklevel=2,
        )


def _open_file(path: Path) -> BinaryIO:
    return open(path, "rb")
