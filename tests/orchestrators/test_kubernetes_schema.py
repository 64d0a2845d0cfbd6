"""examples/pipelines/job.yaml against the schemas that Kubernetes publishes."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml
from pipelines.running import EXAMPLES


def documents() -> list[dict]:
    return list(yaml.safe_load_all((EXAMPLES / "job.yaml").read_text()))


@pytest.mark.parametrize("version", ["1.31", "1.33"])
@pytest.mark.parametrize("document", documents(), ids=lambda document: document["kind"])
def test_kubernetes_takes_every_field(document, version):
    """Each object is valid, with no field that this version does not know."""
    kubernetes_validate.validate(document, version, strict=True)


def test_a_field_that_is_misspelt_is_found():
    """The validation is one: a wrong name in the policy does not pass."""
    job = documents()[1]
    job["spec"]["podFailurePolicy"]["rules"][1]["onExitCode"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="onExitCode"):
        kubernetes_validate.validate(job, "1.33", strict=True)
