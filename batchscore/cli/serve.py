"""``batchscore serve``: a deployment on this computer."""

from __future__ import annotations

import os

from pydantic import Field

from batchscore.cli.commands import as_function
from batchscore.cli.options import Command, GeneralOptions, OptionsModel
from batchscore.cli.terminal import TERMINAL

DEFAULT_PORT = 8077


class ServeOptions(OptionsModel):
    """Everything ``serve`` can be told."""

    model: str | None = Field(
        None,
        description="demo model, package.module:object, file.py:object or model.onnx; "
        "without it all the demo models",
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address to listen on; another than 127.0.0.1 needs BATCHSCORE_TOKEN",
    )
    port: int = Field(
        DEFAULT_PORT, ge=0, le=65535, description="port to listen on, 0 for any free one"
    )


def _serve(options: ServeOptions, _general: GeneralOptions) -> int:
    from batchscore.cli import runner
    from batchscore.serving.app import serve as run_server
    from batchscore.serving.demo import DEMO_MODELS
    from batchscore.serving.load import load_model

    names = tuple(DEMO_MODELS) if options.model is None else (options.model,)
    models = dict(load_model(name) for name in names)
    token = os.environ.get("BATCHSCORE_TOKEN") or None
    waiting = list(models)

    def tell(url: str) -> None:
        TERMINAL.data(url + "\n")
        waiting.pop()
        if not waiting:
            TERMINAL.note(
                f"in another terminal: batchscore inspect --url {url}\n"
                f"                 or: batchscore score INPUT --url {url} -o OUT.arrow\n"
                "Ctrl-C stops the deployment"
            )

    runner.run(run_server(models, host=options.host, port=options.port, token=token, on_ready=tell))
    return 0


COMMAND = Command(
    name="serve",
    model=ServeOptions,
    call=_serve,
    positional="model",
    metavars={"model": "MODEL", "host": "HOST", "port": "PORT"},
)
serve = as_function(COMMAND)
