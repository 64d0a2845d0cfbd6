"""What makes a job this job, and in words what makes it another one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchscore.errors import UsageError
from batchscore.readers.identity import FileIdentity, identify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batchscore.config import ScoreConfig
    from batchscore.readers import OpenedInput
    from batchscore.stores import StoredFile

FORMAT = 1
RESCORED = "rescored"
"""Stands in the identity of work in progress that scores failed rows of an output again."""

OTHER_SPECIFICATION = "the deployment's specification is another one"
_LISTED_FILES = 16
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Job:
    """All that the rows of an output depend on, but for the deployment.

    Attributes:
        options: the options that show in the output, as JSON values.
        files: the files of the input; None where it can be read only once.
        paths: their names, for messages alone.
    """

    options: Mapping[str, object]
    files: tuple[FileIdentity, ...] | None
    paths: tuple[Path | StoredFile, ...]

    @classmethod
    def of(cls, config: ScoreConfig, opened: OpenedInput) -> Job:
        """The job of a configuration and its input; reads samples of the files, and blocks.

        Raises:
            UsageError: it is to be resumed, and its input can be read only once.
        """
        if config.resume and opened.is_stream:
            raise UsageError(
                "--resume: the input is a pipe, which cannot be read again; store it in a file"
            )
        paths = tuple(Path(file) if file == "-" else file for file in opened.files)
        shows_names = opened.is_pictures or config.source_column is not None
        files = (
            None
            if opened.is_stream
            else identify(paths, with_names=shows_names, partitions=opened.partitions)
        )
        return cls(config.output_options(), files, paths)

    def as_json(self) -> dict[str, object]:
        """What stands beside the work in progress, as JSON values: nothing is left out."""
        files = None if self.files is None else [asdict(file) for file in self.files]
        return {"format": FORMAT, "options": dict(self.options), "input": files}

    def input_summary(self) -> dict[str, object]:
        """The input as it stands in a finished output: short, and without times."""
        if self.files is None:
            return {"files": len(self.paths)}
        listed = [_without_time(asdict(file)) for file in self.files]
        digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
        summary: dict[str, object] = {"files": len(listed), "digest": digest}
        if len(listed) <= _LISTED_FILES:
            summary["each"] = listed
        return summary

    def differences(self, earlier: Mapping[str, object]) -> list[str]:
        """What differs from the ``as_json`` of an earlier run, in words; nothing: the same job."""
        if self.as_json() == earlier:
            return []
        if not earlier:
            return ["what it was cannot be read"]
        found = list(self._other_options(earlier.get("options")))
        files = earlier.get("input")
        if files is None or not isinstance(files, list):
            found.append("the input was a pipe")
        else:
            found += self._other_files(files, with_time=True)
        return found or ["another version of batchscore began it"]

    def differences_from_output(
        self, options: object, summary: object, written_ns: int
    ) -> list[str]:
        """What differs from the metadata of a finished output, in words.

        Args:
            options: its options.
            summary: its ``input_summary``.
            written_ns: when it was written. Of a large file only samples were hashed, so that it
                must not be younger.
        """
        found = list(self._other_options(options))
        if summary != self.input_summary():
            each = summary.get("each") if isinstance(summary, dict) else None
            words = self._other_files(each, with_time=False) if isinstance(each, list) else []
            found += words or ["the input differs"]
        for file, path in zip(self.files or (), self.paths, strict=True):
            if file.modified_ns is not None and file.modified_ns > written_ns:
                found.append(f"the input differs ({path} was written to since)")
                break
        return found

    def _other_options(self, earlier: object) -> Iterator[str]:
        if not isinstance(earlier, dict):
            yield "another version of batchscore began it"
            return
        for name, value in self.options.items():
            if earlier.get(name) != value:
                option = "--" + name.replace("_", "-")
                yield f"{option} was {_shown(earlier.get(name))}, now {_shown(value)}"

    def _other_files(self, earlier: Sequence[object], *, with_time: bool) -> list[str]:
        files = self.files or ()
        if len(earlier) != len(files):
            return [f"the input differs ({len(earlier)} files then, {len(files)} now)"]
        for then, file, path in zip(earlier, files, self.paths, strict=True):
            now = asdict(file) if with_time else _without_time(asdict(file))
            if then == now or not isinstance(then, dict):
                continue
            if then.get("name") != now["name"]:
                return [f"the input differs ({path} was {then.get('name') or 'another name'})"]
            same = (then.get("size"), then.get("digest")) == (now["size"], now["digest"])
            how = "was written to since" if same else "has another size or content"
            return [f"the input differs ({path} {how})"]
        return []


def told(differences: Sequence[str]) -> str:
    """The first few differences in one line."""
    more = len(differences) - _TOLD
    return "; ".join(differences[:_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _without_time(file: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in file.items() if key != "modified_ns"}


def _shown(value: object) -> str:
    if value is None or value in ([], {}):
        return "not given"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return repr(value) if isinstance(value, str) and not value.isprintable() else str(value)
