"""A model in an ONNX file, run by ONNX Runtime (the extra ``[onnx]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from batchscore.errors import UsageError
from batchscore.serving.models import Row, RowError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_DTYPES: dict[str, type] = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}


class OnnxModel:
    """Rows in, rows out; each input and output of the graph is one feature.

    ``[N]`` and ``[N, 1]`` are scalars (text for strings), ``[N, k, ...]`` arrays of numbers. The
    sequence of maps that scikit-learn's classifiers export is categorical.

    Raises:
        UsageError: ONNX Runtime is not installed, the file does not load, or an input or output
            has a type or shape that no feature has.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise UsageError(
                "an ONNX model needs ONNX Runtime: pip install 'batchscore[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: its warnings are for who wrote the model
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no public base
            why = " ".join(str(error).split())
            raise UsageError(
                f"{path} does not load as an ONNX model: {why}; export it again"
            ) from error
        self._path = path
        self._nodes = {node.name: node for node in self._session.get_inputs()}
        self._one_by_one = any(node.shape[:1] == [1] for node in self._nodes.values())
        self.inputs = {name: self._feature(node) for name, node in self._nodes.items()}
        outputs = self._session.get_outputs()
        # What the graph leaves open, one row of zeros tells.
        open_outputs = [node for node in outputs if _is_open(node)]
        tried = self._try() if open_outputs else {}
        self.classes = {
            node.name: sorted(map(str, tried[node.name][0]))
            for node in outputs
            if _is_map(node) and node.name in tried
        }
        self.outputs = {node.name: self._feature(node, tried.get(node.name)) for node in outputs}

    def _feature(self, node: Any, tried: Any = None) -> tuple[str, tuple[int, ...]]:
        """(type, shape) of one input or output."""
        if _is_map(node):
            return "categorical", ()
        if node.type not in _DTYPES:
            raise UsageError(f"{self._path}: {node.name!r} is {node.type}, which no feature is")
        shape = list(node.shape) if tried is None else [None, *np.shape(tried)[1:]]
        if not shape or (isinstance(shape[0], int) and shape[0] != 1):
            raise UsageError(f"{self._path}: {node.name!r} has shape {shape}, with no rows in it")
        sizes = shape[1:]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise UsageError(
                f"{self._path}: {node.name!r} has shape {shape}; "
                "only the number of rows may be open"
            )
        is_scalar = sizes in ([], [1])
        if node.type == "tensor(string)":
            if not is_scalar:
                raise UsageError(f"{self._path}: {node.name!r} is an array of strings {shape}")
            return "text", ()
        return "numeric", () if is_scalar else tuple(sizes)

    def _try(self) -> dict[str, Any]:
        feeds: dict[str, Any] = {
            name: np.full((1, *self._sizes(name)), "" if dtype == "text" else 0).astype(
                self._dtype(name)
            )
            for name, (dtype, _) in self.inputs.items()
        }
        try:
            return self._run(feeds)
        except Exception:  # noqa: BLE001  (a model may refuse zeros; its shapes are then refused)
            return {}

    def _sizes(self, name: str) -> Sequence[int]:
        """The shape that one row has in the tensor: ``[1]`` stays ``[1]``."""
        sizes: Sequence[int] = self._nodes[name].shape[1:]
        return sizes

    def _dtype(self, name: str) -> type:
        dtype = _DTYPES[self._nodes[name].type]
        return object if dtype is np.str_ else dtype

    def _run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        names = [node.name for node in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feeds), strict=True))

    def predict(self, rows: list[Row]) -> list[Row]:
        """The answer to each row.

        Raises:
            RowError: null where the model takes no NaN, or a number that its type cannot hold.
        """
        feeds = {name: self._tensor(name, rows) for name in self.inputs}
        if not self._one_by_one:
            return self._answers(self._run(feeds))
        answers: list[Row] = []
        for row in range(len(rows)):
            one = {name: tensor[row : row + 1] for name, tensor in feeds.items()}
            answers += self._answers(self._run(one))
        return answers

    def _tensor(self, name: str, rows: list[Row]) -> Any:
        dtype = self._dtype(name)
        sizes = self._sizes(name)
        values = [row[name] for row in rows]
        null = np.nan if np.issubdtype(dtype, np.floating) else None
        for position, value in enumerate(values):
            if value is None and null is None:
                raise RowError(position, name, "null, and the model takes none")
            if np.issubdtype(dtype, np.integer):
                _check_whole(position, name, value, dtype)
        filled = [np.full(sizes, null) if value is None else value for value in values]
        return np.array([np.reshape(value, sizes) for value in filled], dtype=dtype)

    def _answers(self, outputs: dict[str, Any]) -> list[Row]:
        columns = [self._column(name, value) for name, value in outputs.items()]
        return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]

    def _column(self, name: str, value: Any) -> list[Any]:
        dtype, shape = self.outputs[name]
        if dtype == "categorical":
            return list(value)
        if shape:
            return list(np.asarray(value))
        column: list[Any] = np.asarray(value).reshape(-1).tolist()
        return column


def _is_map(node: Any) -> bool:
    return str(node.type).startswith("seq(map(")


def _is_open(node: Any) -> bool:
    return _is_map(node) or not all(isinstance(size, int) for size in node.shape[1:])


def _check_whole(position: int, name: str, value: Any, dtype: type) -> None:
    bounds = np.iinfo(dtype)
    numbers = np.asarray(value, dtype=np.float64)
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    if not np.all(whole & (numbers >= bounds.min) & (numbers <= bounds.max)):
        raise RowError(position, name, f"the model takes whole numbers ({bounds.dtype})")
