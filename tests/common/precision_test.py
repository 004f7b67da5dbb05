import os
import re
import subprocess
import sys

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common import precision
from ldnet_allennlp.common.precision import autocast_context, check_autocast, resolve_autocast, supports

CPU = torch.device("cpu")


@pytest.fixture
def cpu(monkeypatch):
    """A function that makes this machine's CPU, without a GPU, have bfloat16 or not."""

    def set_bfloat16(supported):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(
            precision, "supports", lambda dtype, device: supported and dtype == torch.bfloat16
        )

    return set_bfloat16


def test_settings_where_the_cpu_has_bfloat16(cpu):
    cpu(True)
    assert resolve_autocast(None, CPU, "x") is None
    assert resolve_autocast("auto", CPU, "x") is torch.bfloat16
    assert resolve_autocast("bfloat16", CPU, "x") is torch.bfloat16
    for setting in (None, "auto", "bfloat16"):
        check_autocast(setting, "x")


def test_settings_where_it_does_not(cpu):
    cpu(False)
    assert resolve_autocast(None, CPU, "x") is None and resolve_autocast("auto", CPU, "x") is None
    check_autocast("auto", "x")
    message = "autocast of a tagger is 'bfloat16', which this machine does not support: it needs a CPU with AVX512_BF16"
    for function in (check_autocast, lambda setting, owner: resolve_autocast(setting, CPU, owner)):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            function("bfloat16", "a tagger")


@pytest.mark.parametrize("setting", ["half", "float32", True])
def test_unknown_settings(setting):
    with pytest.raises(ConfigurationError, match=r"null, 'auto', 'bfloat16' or 'float16', not"):
        check_autocast(setting, "a tagger")


def test_float16_is_for_gpus():
    assert not supports(torch.float16, CPU)
    with pytest.raises(ConfigurationError, match="it needs a GPU that computes in float16"):
        resolve_autocast("float16", CPU, "a tagger")


def test_a_device_that_lacks_what_another_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(precision, "supports", lambda dtype, device: device.type == "cuda")
    check_autocast("bfloat16", "x")
    assert resolve_autocast("auto", torch.device("cuda", 0), "x") is torch.bfloat16
    with pytest.raises(ConfigurationError, match="which the device 'cpu' does not support"):
        resolve_autocast("bfloat16", CPU, "x")


def test_emulated_bfloat16_does_not_count(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert not supports(torch.bfloat16, CPU)


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize("limit", ["AVX2", "avx512_core"])
def test_limits_of_onednn_count(variable, limit, monkeypatch):
    monkeypatch.setenv(variable, limit)
    assert not supports(torch.bfloat16, CPU)


@pytest.mark.parametrize("limits", [{}, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}])
def test_auto_trains_an_lstm_on_every_cpu(limits):
    """In a fresh process: oneDNN reads its limit once."""
    code = (
        "import torch\n"
        "from ldnet_allennlp.common.precision import autocast_context, resolve_autocast\n"
        "cpu = torch.device('cpu')\n"
        "lstm = torch.nn.LSTM(3, 4)\n"
        "with autocast_context(resolve_autocast('auto', cpu, 'x'), cpu):\n"
        "    output = lstm(torch.randn(5, 2, 3))[0]\n"
        "output.float().sum().backward()\n"
        "print(output.dtype)\n"
    )
    environment = {**os.environ, **limits}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    expected = torch.bfloat16 if not limits and supports(torch.bfloat16, CPU) else torch.float32
    assert done.stdout.strip() == str(expected), done.stderr


def test_context():
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast_context(None, CPU):
        assert torch.is_autocast_enabled("cpu")
    with autocast_context(torch.bfloat16, CPU):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
