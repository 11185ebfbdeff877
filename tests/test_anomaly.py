"""detect_anomaly names what is to blame; the profiler counts what ran."""

import fastbp
import pytest
from fastbp import autograd, nn
from fastbp.profiler import ProfilerActivity, profile, record_function, schedule


class Quotient(nn.Module):
    def forward(self, x):
        y = x - x.detach()
        z = y / y                   # the culprit
        return z * 2


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.rest = nn.Sequential(nn.Linear(3, 3), Quotient())

    def forward(self, x):
        return self.rest(self.first(x)).pow(2).sum()


def test_the_first_bad_value_in_forward_order_is_named():
    with autograd.detect_anomaly():
        with pytest.raises(RuntimeError) as error:
            Net()(fastbp.ones(2, 3)).backward()
    text = str(error.value)
    assert "Function 'SquareBackward0' returned nan values in its 0th output" in text
    first = text.partition("The first NaN")[2]
    assert "z = y / y" in first and "rest.1 (Quotient)" in first and "test_anomaly.py:" in first
    assert "float32[2, 3] in [0, 0]" in first and "6 NaN" in first
    assert not nn.Module._hooked and fastbp._core._watch(None) == (None, 0)


def test_an_infinity_before_it():
    x = fastbp.tensor([0.0, 1.0], requires_grad=True)
    with autograd.detect_anomaly(), pytest.raises(RuntimeError) as error:
        y = x.log()
        z = y - y
        (z * x).sum().backward()
    first, _, infinity = str(error.value).partition("The first infinity")
    assert "z = y - y" in first and "y = x.log()" in infinity and "in [0, 1]" in infinity


def test_a_derivative_that_is_nan():
    x = fastbp.tensor([0.0, 4.0], requires_grad=True)
    with autograd.detect_anomaly(), pytest.raises(RuntimeError, match=r"derivative of this operation is NaN here") as error:
        y = x * 0
        y.sqrt().sum().backward()           # inf from the root, times 0
    assert "the gradient that arrived does not" in str(error.value) and "`y = x * 0`" in str(error.value)


def test_forward_outside():
    loss = Net()(fastbp.ones(2, 3))
    with autograd.detect_anomaly(), pytest.raises(RuntimeError, match="Run the forward pass inside detect_anomaly"):
        loss.backward()


def test_good_passes_and_masks_go_through():
    x = fastbp.tensor([0.0, 4.0], requires_grad=True)
    with autograd.detect_anomaly():
        fastbp.where(x > 0, x.log(), 0.0).sum().backward()
        x.masked_fill(x == 0, float("-inf")).softmax(0).pow(2).sum().backward()
    assert fastbp.isfinite(x.grad).all()
    with autograd.detect_anomaly(check_nan=False):
        Net()(fastbp.ones(2, 3)).backward()


def test_both_lines_of_a_second_pass():
    x = fastbp.ones(2, requires_grad=True)
    with autograd.set_detect_anomaly(True):
        loss = (x * x).sum()
        loss.backward()
        with pytest.raises(RuntimeError) as error:
            loss.backward()
    text = str(error.value)
    assert "retain_graph=True" in text and "`loss = (x * x).sum()`" in text
    assert "The earlier pass:" in text and "`loss.backward()`" in text
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="detect_anomaly"):
        loss.backward()


def test_both_lines_of_an_overwrite():
    x = fastbp.ones(2, requires_grad=True)
    with autograd.detect_anomaly():
        y = x * 1
        loss = (y * y).sum()
        y.add_(1)
        with pytest.raises(RuntimeError) as error:
            loss.backward()
    text = str(error.value)
    assert "`loss = (y * y).sum()`" in text and "`y.add_(1)`" in text and "clone()" in text


def test_profile_counts_kernels():
    x = fastbp.ones(4, 4)
    with autograd.profiler.profile() as prof:
        for _ in range(5):
            x.exp()
        with record_function("block"):
            x @ x
    found = {e.key: e for e in prof.key_averages()}
    assert found["exp"].count == 5 and found["matmul"].count == 1 and found["block"].count == 1
    assert 0 < found["exp"].self_cpu_time_total <= prof.self_cpu_time_total and found["block"].cpu_time_total > 0
    text = prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=2)
    assert "Self CPU time total" in text and len(text.splitlines()) == 7
    with pytest.raises(AttributeError, match="sort_by"):
        prof.table(sort_by="nothing")
    with autograd.profiler.profile(enabled=False) as prof:
        x.exp()
    with pytest.raises(RuntimeError, match="finish"):
        prof.key_averages()


def test_profile_with_a_schedule(tmp_path):
    seen = []
    with profile(activities=[ProfilerActivity.CPU], schedule=schedule(wait=1, warmup=1, active=2, repeat=1),
                 on_trace_ready=lambda p: seen.append({e.key: e.count for e in p.key_averages()})) as prof:
        for _ in range(6):
            with record_function("step"):
                fastbp.ones(3).exp()
            prof.step()
    assert len(seen) == 1 and seen[0]["exp"] == 2 and seen[0]["step"] == 2
    prof.export_chrome_trace(tmp_path / "trace.json")
    assert '"step"' in (tmp_path / "trace.json").read_text()
