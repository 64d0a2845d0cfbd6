"""The options that say where a job is scored: on this computer, or by the workers of an engine."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

EngineName = Literal["local", "ray", "spark"]


class EngineOptions(BaseModel):
    """What scores a job."""

    engine: EngineName = Field(
        "local", description="where the rows are scored: here, or by the workers of Ray or Spark"
    )
    workers: int | None = Field(
        None, ge=1, description="workers of the engine; else as many as it has room for"
    )
    ray_address: str | None = Field(
        None, description="Ray cluster, such as auto or HOST:PORT; else one on this computer"
    )
    master: str | None = Field(
        None, description="Spark master, such as local[4] or spark://HOST:PORT; else this computer"
    )

    @model_validator(mode="after")
    def _of_this_engine(self) -> Self:
        for option, engine in (("ray_address", "ray"), ("master", "spark")):
            if getattr(self, option) is not None and self.engine != engine:
                raise ValueError(f"{option} goes with engine {engine}, and this is {self.engine}")
        if self.workers is not None and self.engine == "local":
            raise ValueError(
                "workers are those of an engine (ray, spark); on this computer say processes"
            )
        return self
