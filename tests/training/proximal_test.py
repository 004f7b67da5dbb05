import copy

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer

import ldnet_allennlp.training.proximal  # noqa: F401
from tests.resources import load_reference


def build(parameters, **inner):
    settings = {"type": "sgd", "lr": 0.5, "momentum": 0.9, **inner}
    return Optimizer.from_params(
        Params({"type": "proximal", "optimizer": settings}), model_parameters=list(parameters)
    )


def gates_and_weight():
    torch.manual_seed(1)
    return [
        ("embedder.gates", torch.nn.Parameter(torch.rand(5))),
        ("gates_projection.weight", torch.nn.Parameter(torch.randn(5) * 3)),
    ]


def test_equals_the_wrapped_optimizer_then_a_clamp():
    ours, plain = gates_and_weight(), gates_and_weight()
    optimizer = build(ours)
    reference = torch.optim.SGD([parameter for _, parameter in plain], lr=0.5, momentum=0.9)
    clamped = 0
    for step in range(12):
        direction = torch.sin(torch.arange(5.0) * 1.7 + step)
        for parameters, one in ((ours, optimizer), (plain, reference)):
            one.zero_grad()
            sum((parameter * direction).sum() for _, parameter in parameters).backward()
            one.step()
        clamped += int(((plain[0][1] < 0) | (plain[0][1] > 1)).sum())
        with torch.no_grad():
            plain[0][1].clamp_(0, 1)
        assert torch.equal(ours[0][1], plain[0][1])
        # A parameter whose name only begins like the gates' is no gate.
        assert torch.equal(ours[1][1], plain[1][1])
    assert clamped > 5  # the clamp had something to do
    assert ours[1][1].abs().max().item() > 1


def test_momentum_of_a_clamped_gate_is_kept():
    gate = torch.nn.Parameter(torch.tensor([0.1]))
    optimizer = build([("gates", gate)], lr=1.0)
    gate.grad = torch.tensor([1.0])
    optimizer.step()
    assert gate.item() == 0.0
    gate.grad = torch.tensor([-0.5])
    optimizer.step()  # the buffer is 0.9 * 1 - 0.5 = 0.4: the gate still wants down
    assert gate.item() == 0.0
    gate.grad = torch.tensor([-0.5])
    optimizer.step()  # 0.9 * 0.4 - 0.5 = -0.14
    assert gate.item() == pytest.approx(0.14)


def test_schedulers_and_parameter_groups_reach_the_wrapped_optimizer():
    parameters = gates_and_weight()
    optimizer = Optimizer.from_params(
        Params(
            {
                "type": "proximal",
                "parameter_groups": [[["gates$"], {"lr": 2.0}]],
                "optimizer": {"type": "sgd", "lr": 0.5},
            }
        ),
        model_parameters=parameters,
    )
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == [2.0, 0.5]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.optimizer.param_groups] == pytest.approx([0.2, 0.05])


def test_state_survives_a_checkpoint():
    parameters = gates_and_weight()
    optimizer = build(parameters)
    for _, parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    twins = [(name, torch.nn.Parameter(parameter.detach().clone())) for name, parameter in parameters]
    twin = build(twins)
    twin.load_state_dict(state)
    assert twin.param_groups is twin.optimizer.param_groups
    for group in (parameters, twins):
        for _, parameter in group:
            parameter.grad = torch.full_like(parameter, -0.2)
    optimizer.step()
    twin.step()
    assert all(torch.equal(a[1], b[1]) for a, b in zip(parameters, twins))


def test_works_with_adam():
    parameters = gates_and_weight()
    optimizer = Optimizer.from_params(
        Params({"type": "proximal", "optimizer": {"type": "adam", "lr": 0.3}}), model_parameters=parameters
    )
    for _, parameter in parameters:
        parameter.data[0] = 1.5
    for _, parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert parameters[0][1].max().item() <= 1.0
    assert parameters[1][1].max().item() > 1.0


def test_no_gates_is_an_error():
    with pytest.raises(ConfigurationError, match="no trainable parameter whose name matches"):
        build([("weight", torch.nn.Parameter(torch.ones(1)))])


def test_the_originals_gates_while_pruning():
    """Each step of the original's pruning run, from its own gates and gradients' effect."""
    trace = load_reference("j_traces/prune.npz")
    for side in ("f", "b"):
        before, after = trace[f"gates_before_prox_{side}"], trace[f"gates_{side}"]
        for wanted, unclamped in zip(after, before):
            gates = torch.nn.Parameter(torch.tensor(unclamped))
            optimizer = build([("gates", gates)], lr=0.0)
            gates.grad = torch.zeros_like(gates)
            optimizer.step()
            assert gates.tolist() == pytest.approx(wanted.tolist(), abs=1e-12)


@pytest.mark.parametrize("stay", [False, True])
def test_gates_that_reached_zero(stay):
    gates = torch.nn.Parameter(torch.tensor([0.1, 0.5]))
    section = {"type": "proximal", "optimizer": {"type": "sgd", "lr": 1.0}, "zeros_stay": stay}
    optimizer = Optimizer.from_params(Params(section), model_parameters=[("gates", gates)])
    seen = []
    for slope in ([0.2, 0.1], [-0.3, -0.3], [-0.3, -0.4]):
        gates.grad = torch.tensor(slope)
        optimizer.step()
        seen.append(gates.tolist())
    assert seen[0] == pytest.approx([0.0, 0.4])
    assert seen[1] == pytest.approx([0.0 if stay else 0.3, 0.7])
    assert seen[2] == pytest.approx([0.0 if stay else 0.6, 1.0])


@pytest.mark.parametrize("kind, momentum", [("sgd", "momentum_buffer"), ("adam", "exp_avg")])
def test_the_momentum_of_what_is_clamped_can_be_taken_away(kind, momentum):
    gates = torch.nn.Parameter(torch.tensor([0.01, 0.5]))
    inner = {"type": kind, "lr": 0.1, **({"momentum": 0.9} if kind == "sgd" else {})}
    section = {"type": "proximal", "optimizer": inner, "reset_momentum": True}
    optimizer = Optimizer.from_params(Params(section), model_parameters=[("gates", gates)])
    gates.grad = torch.tensor([1.0, 1.0])
    optimizer.step()
    assert gates[0] == 0.0 and gates[1] > 0.3
    first, second = optimizer.state[gates][momentum].tolist()
    assert first == 0.0 and second > 0.0
