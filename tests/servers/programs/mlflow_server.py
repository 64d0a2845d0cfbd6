"""MLflow's scoring server with one model: ``python mlflow_server.py MODEL_FOLDER PORT``.

What ``mlflow models serve`` starts, without the command line's own process before it.
"""

from __future__ import annotations

import sys

import uvicorn
from mlflow.pyfunc import load_model
from mlflow.pyfunc.scoring_server import init

if __name__ == "__main__":
    uvicorn.run(init(load_model(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]))
