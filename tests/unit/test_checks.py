import pytest
from ansible_collections.muster.serving.plugins.module_utils.common.checks import check


def test_a_check_has_the_published_keys() -> None:
    verdict = check("npu-health", "bare", "failed", "device 3", "Alarm", "OK", "Replace it.")
    assert list(verdict) == ["id", "phase", "status", "subject", "observed", "expected", "remedy"]


@pytest.mark.parametrize(("phase", "status"), [("later", "ok"), ("bare", "good")])
def test_unknown_words_are_refused(phase: str, status: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        check("npu-health", phase, status, "device 3")
