"""``batchscore inspect``: what a deployment takes and gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import Field

from batchscore.cli.options import Command, GeneralOptions
from batchscore.cli.score import DEPLOYMENT, METAVARS
from batchscore.cli.terminal import TERMINAL
from batchscore.config import EndpointConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchscore.schema import FeatureSpec, ModelSignature


class InspectOptions(EndpointConfig):
    """Everything ``inspect`` can be told."""

    json_output: bool = Field(False, alias="json", description="print JSON")


def _inspect(options: InspectOptions, _general: GeneralOptions) -> int:
    from batchscore.cli import runner
    from batchscore.endpoint import Endpoint
    from batchscore.scorer import inspect as ask

    endpoint = Endpoint.parse(options.url)
    protocol, signature = runner.run(ask(options))
    if options.json_output:
        content = _content(protocol, endpoint.shown, signature)
        TERMINAL.data(json.dumps(content, indent=2) + "\n")
    else:
        _print_tables(protocol, endpoint.shown, signature)
    return 0


def _content(protocol: str, endpoint: str, signature: ModelSignature) -> dict[str, object]:
    def listed(specs: Iterable[FeatureSpec]) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for spec in specs:
            rows.append({"name": spec.name, "type": spec.dtype, "shape": list(spec.shape)})
            if spec.datatype is not None:
                rows[-1]["datatype"] = spec.datatype
        return rows

    outputs = listed(signature.outputs)
    for row, spec in zip(outputs, signature.outputs, strict=True):
        row["classes"] = None if spec.classes is None else list(spec.classes)
    form = {} if signature.binary_tensors is None else {"binary": signature.binary_tensors}
    return {
        "protocol": protocol,
        **form,
        "endpoint": endpoint,
        "fingerprint": signature.fingerprint(),
        "inputs": listed(signature.inputs),
        "outputs": outputs,
    }


def _print_tables(protocol: str, endpoint: str, signature: ModelSignature) -> None:
    from rich.table import Table

    form = ""
    if signature.binary_tensors is not None:
        form = " in binary" if signature.binary_tensors else " in JSON, binary once answers are"
    TERMINAL.data(f"{endpoint}\nprotocol {protocol}{form}, fingerprint {signature.fingerprint()}\n")
    for title, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if not specs:
            TERMINAL.data(f"\n{title}s: the deployment does not tell\n")
            continue
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in (title, "type", "shape", "classes"):
            table.add_column(column, overflow="fold")
        for spec in specs:
            sizes = ["?" if size < 0 else str(size) for size in spec.shape]
            shape = " x ".join(sizes) if spec.kind == "array" else ""
            kind = f"{spec.dtype}, {spec.datatype}" if spec.datatype else spec.dtype
            table.add_row(spec.name, kind, shape, ", ".join(spec.classes or ()))
        TERMINAL.data("\n")
        if specs:
            TERMINAL.table(table)
        else:
            TERMINAL.data(f"{title}s: the deployment does not tell\n")


COMMAND = Command(
    name="inspect",
    model=InspectOptions,
    call=_inspect,
    groups={"Deployment": DEPLOYMENT},
    metavars=METAVARS,
)
inspect = COMMAND.as_function()
