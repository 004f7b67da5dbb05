"""The LSTM layers of a densely connected stack as one step of autograd, for training on CPUs."""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import torch

from ldnet_allennlp.modules.rnn.dropped_elements import draw_dropped, put_back, take_out
from ldnet_allennlp.modules.rnn_inference import LayerState


class DenseLstmPlan(NamedTuple):
    """What a call of `DenseLstm` is given beside the input vectors and the weights."""

    starts: Optional[List[LayerState]]
    """The (h, c) that each layer starts from, (B, H) each; zeros if not given."""

    hidden: List[bool]
    """Whether each layer's output is hidden from the layers above it (`LayerDropout`)."""

    dropout: float
    """Dropout on the input of every layer."""

    dtype: torch.dtype
    """The precision of the matrix products and of the output: float32 or bfloat16."""


class _Run(NamedTuple):
    """What the backward pass needs of a layer's forward pass."""

    seen: int
    """The layer read the first `seen` columns of the buffer."""

    place: int
    """Its output begins at this column of the buffer."""

    activations: torch.Tensor
    """Shape (T, B, 4, H), float32: input gate, forget gate, candidate and output gate."""

    cells: torch.Tensor
    """Shape (T + 1, B, H), float32: the cell state before each step, and after the last."""

    dropped: Optional[torch.Tensor]
    """Which elements of the flat buffer dropout took out of the layer's input."""


class DenseLstm(torch.autograd.Function):
    """
    Computes what `DenseRnnStack` computes with one `torch.nn.LSTM` a layer, and the same gradients, with less work:

    - One buffer holds the input and all layers, time first, and another all their gradients: nothing is concatenated,
      and a layer that ten others read gets its gradient in place. Layers that are hidden from those above stand at
      the end of the buffer, and the others multiply without them: no product with zeros. (With `layer_dropout: 0.5`
      these are a third of all.)
    - Dropout takes single elements out of the buffer and puts them back after the product; its scale is part of
      the weights. So it costs what it drops, and not a random number for each element.
    - Each layer's matrix products with all steps' inputs are one product, forward and backward, and at each step there
      is one product with the recurrent weights. All others are of the size of a batch's hidden states, in float32.

    `apply(inputs, plan, *weights)` takes (B, T, D) vectors, a `DenseLstmPlan`, and for each layer `weight_ih`,
    `weight_hh`, `bias_ih` and `bias_hh`, named and ordered as in `torch.nn.LSTM`. It gives the output
    (B, T, D + L * H), and each layer's last h and c, which have no gradient.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, inputs: torch.Tensor, plan: DenseLstmPlan, *weights: torch.Tensor
    ) -> Tuple[torch.Tensor, ...]:
        batch, steps, input_size = inputs.shape
        size = weights[1].size(1)  # H
        num_layers = len(plan.hidden)
        buffer = inputs.new_empty((steps, batch, input_size + num_layers * size), dtype=plan.dtype)
        buffer[:, :, :input_size] = inputs.transpose(0, 1)
        seen, behind = input_size, input_size + size * plan.hidden.count(False)
        runs, finals = [], []
        with torch.autocast(device_type="cpu", enabled=False):
            for number in range(num_layers):
                weight_ih, weight_hh, bias_ih, bias_hh = weights[4 * number : 4 * number + 4]
                dropped = draw_dropped(buffer, seen, plan.dropout)
                kept = take_out(buffer, dropped)
                read = _weight_of_seen(weight_ih, input_size, plan, number)  # (4 * H, seen)
                bias = (bias_ih + bias_hh).to(plan.dtype)
                preactivations = torch.addmm(bias, buffer.view(steps * batch, -1)[:, :seen], read.t())
                put_back(buffer, dropped, kept)
                place = behind if plan.hidden[number] else seen
                run = _Run(
                    seen,
                    place,
                    preactivations.float().view(steps, batch, 4, size),
                    _cells(plan, number, steps, batch, size, inputs),
                    dropped,
                )
                output = buffer[:, :, place : place + size]  # (T, B, H)
                _run_forward(run, output, weight_hh.to(plan.dtype), _start(plan, number))
                finals += [output[-1].to(plan.dtype), run.cells[-1].to(plan.dtype)]
                runs.append(run)
                seen, behind = (seen, behind + size) if plan.hidden[number] else (seen + size, behind)
        kept_of_runs = [tensor for run in runs for tensor in (run.activations, run.cells, run.dropped)]
        ctx.save_for_backward(buffer, *kept_of_runs, *weights)
        ctx.plan, ctx.places, ctx.input_dtype = plan, [(run.seen, run.place) for run in runs], inputs.dtype
        finals = [tensor.clone() for tensor in finals]  # not views that keep the buffer alive
        ctx.mark_non_differentiable(*finals)
        return (_in_order(buffer, input_size, runs), *finals)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        plan, saved = ctx.plan, ctx.saved_tensors
        # Dropout changes it for a moment. That is no change that autograd needs to know of, hence `data`.
        buffer = saved[0].data
        runs = [
            _Run(*place, *saved[3 * number + 1 : 3 * number + 4]) for number, place in enumerate(ctx.places)
        ]
        weights = saved[3 * len(runs) + 1 :]
        steps, batch, width = buffer.shape
        size = weights[1].size(1)
        input_size = width - len(runs) * size
        gradients = torch.empty((steps, batch, width), dtype=torch.float32)
        natural = gradient.transpose(0, 1)  # (T, B, D + L * H)
        gradients[:, :, :input_size] = natural[:, :, :input_size]
        for number, run in enumerate(runs):
            first = input_size + number * size
            gradients[:, :, run.place : run.place + size] = natural[:, :, first : first + size]
        results: List[Optional[torch.Tensor]] = []
        with torch.autocast(device_type="cpu", enabled=False):
            for number in reversed(range(len(runs))):
                of_layer = _layer_backward(plan, runs, number, buffer, gradients, weights)
                results = [*of_layer, *results]
        of_inputs = gradients[:, :, :input_size].transpose(0, 1).to(ctx.input_dtype)
        return (of_inputs, None, *results)


def _layer_backward(
    plan: DenseLstmPlan,
    runs: Sequence[_Run],
    number: int,
    buffer: torch.Tensor,
    gradients: torch.Tensor,
    weights: Sequence[torch.Tensor],
) -> List[Optional[torch.Tensor]]:
    """The gradients of a layer's four weights; adds those of what it read to `gradients`, laid out as the buffer."""
    run = runs[number]
    weight_ih, weight_hh = weights[4 * number : 4 * number + 2]
    steps, batch, width = buffer.shape
    size = weight_hh.size(1)
    rows, row_gradients = buffer.view(steps * batch, width), gradients.view(steps * batch, width)
    start = _start(plan, number)
    columns = slice(run.place, run.place + size)
    of_preactivations = _run_backward(
        run, gradients[:, :, columns], weight_hh.to(plan.dtype)
    )  # (T * B, 4 * H)
    of_hh = of_preactivations[batch:].t() @ rows[:-batch, columns]  # (4 * H, H)
    if start is not None:
        of_hh = of_hh + of_preactivations[:batch].t() @ start[0].to(plan.dtype)
    of_bias = of_preactivations.sum(dim=0, dtype=torch.float32).to(weight_ih.dtype)

    kept = take_out(buffer, run.dropped)
    of_seen = of_preactivations.t() @ rows[:, : run.seen]  # (4 * H, seen)
    put_back(buffer, run.dropped, kept)
    input_size = width - len(runs) * size
    of_ih = _scattered(of_seen, weight_ih, input_size, plan, number)

    read = _weight_of_seen(weight_ih, input_size, plan, number)
    kept = take_out(gradients, run.dropped)
    if plan.dtype == torch.float32:
        row_gradients[:, : run.seen].addmm_(of_preactivations, read)
    else:
        row_gradients[:, : run.seen].add_(of_preactivations @ read)
    put_back(gradients, run.dropped, kept)
    return [of_ih, of_hh.to(weight_hh.dtype), of_bias, of_bias.clone()]


def _run_forward(
    run: _Run, output: torch.Tensor, weight_hh: torch.Tensor, start: Optional[LayerState]
) -> None:
    """Turns the input's part of the preactivations into activations, and fills in cells and output (T, B, H)."""
    recurrent = weight_hh.t()  # (H, 4 * H)
    previous = None if start is None else start[0].to(weight_hh.dtype)
    for step, activations in enumerate(run.activations):
        flat = activations.flatten(start_dim=1)  # (B, 4 * H)
        if previous is not None and weight_hh.dtype == torch.float32:
            flat.addmm_(previous, recurrent)
        elif previous is not None:
            flat.add_(previous @ recurrent)
        activations[:, :2].sigmoid_()
        activations[:, 2].tanh_()
        activations[:, 3].sigmoid_()
        in_gate, forget_gate, candidate, out_gate = activations.unbind(1)  # (B, H) each
        cell = torch.mul(forget_gate, run.cells[step], out=run.cells[step + 1])
        cell.addcmul_(in_gate, candidate)
        previous = output[step].copy_(out_gate * cell.tanh())


def _run_backward(run: _Run, gradient: torch.Tensor, weight_hh: torch.Tensor) -> torch.Tensor:
    """The gradient of the preactivations (T * B, 4 * H), given that of the output (T, B, H)."""
    steps, batch, size = gradient.shape
    result = torch.empty((steps, batch, 4, size), dtype=weight_hh.dtype)
    of_cell = torch.zeros((batch, size))
    for step in reversed(range(steps)):
        activations = run.activations[step]
        in_gate, forget_gate, candidate, out_gate = activations.unbind(1)  # (B, H) each
        squashed = run.cells[step + 1].tanh()
        of_output = gradient[step]
        if step + 1 < steps:
            later = result[step + 1].flatten(start_dim=1)  # (B, 4 * H)
            if weight_hh.dtype == torch.float32:
                of_output = torch.addmm(of_output, later, weight_hh)
            else:
                of_output = of_output + later @ weight_hh
        through = of_output * out_gate
        of_cell.add_(through).addcmul_(through, squashed * squashed, value=-1)  # 1 - tanh^2
        # The derivatives of sigmoid, s - s^2, and, for the candidate, of tanh, 1 - g^2.
        slopes = torch.addcmul(activations, activations, activations, value=-1)  # (B, 4, H)
        torch.mul(candidate, candidate, out=slopes[:, 2]).neg_().add_(1)
        slopes[:, 0].mul_(candidate)
        slopes[:, 1].mul_(run.cells[step])
        slopes[:, 2].mul_(in_gate)
        slopes[:, :3].mul_(of_cell.unsqueeze(1))
        slopes[:, 3].mul_(squashed).mul_(of_output)
        result[step] = slopes
        of_cell.mul_(forget_gate)
    return result.view(steps * batch, 4 * size)


def _start(plan: DenseLstmPlan, number: int) -> Optional[LayerState]:
    return None if plan.starts is None else plan.starts[number]


def _cells(
    plan: DenseLstmPlan, number: int, steps: int, batch: int, size: int, like: torch.Tensor
) -> torch.Tensor:
    cells = like.new_empty((steps + 1, batch, size), dtype=torch.float32)
    start = _start(plan, number)
    cells[0] = 0.0 if start is None else start[1]
    return cells


def _visible_columns(input_size: int, size: int, plan: DenseLstmPlan, number: int) -> Optional[List[slice]]:
    """The columns of a layer's input weights that it uses, in order; `None` for all."""
    if not any(plan.hidden[:number]):
        return None
    below = [input_size + layer * size for layer in range(number) if not plan.hidden[layer]]
    return [slice(0, input_size), *(slice(first, first + size) for first in below)]


def _weight_of_seen(
    weight_ih: torch.Tensor, input_size: int, plan: DenseLstmPlan, number: int
) -> torch.Tensor:
    """A layer's input weights for the columns it sees, with the scale of dropout. Shape (4 * H, seen)."""
    columns = _visible_columns(input_size, weight_ih.size(0) // 4, plan, number)
    weight = weight_ih if columns is None else torch.cat([weight_ih[:, part] for part in columns], dim=1)
    if plan.dropout > 0:
        weight = weight / (1 - plan.dropout) if plan.dropout < 1 else torch.zeros_like(weight)
    return weight.to(plan.dtype)


def _scattered(
    of_seen: torch.Tensor, weight_ih: torch.Tensor, input_size: int, plan: DenseLstmPlan, number: int
) -> torch.Tensor:
    """The gradient of a layer's input weights, given that of `_weight_of_seen`: zeros for what it did not see."""
    scale = 1 / (1 - plan.dropout) if plan.dropout < 1 else 0.0
    columns = _visible_columns(input_size, weight_ih.size(0) // 4, plan, number)
    if columns is None:
        return of_seen.to(weight_ih.dtype).mul_(scale) if scale != 1 else of_seen.to(weight_ih.dtype)
    result = torch.zeros_like(weight_ih)
    first = 0
    for part in columns:
        last = first + part.stop - part.start
        torch.mul(of_seen[:, first:last].to(weight_ih.dtype), scale, out=result[:, part])
        first = last
    return result


def _in_order(buffer: torch.Tensor, input_size: int, runs: Sequence[_Run]) -> torch.Tensor:
    """The output (B, T, D + L * H): batch first, with the layers in their own order."""
    steps, batch, width = buffer.shape
    size = (width - input_size) // len(runs)
    output = buffer.new_empty((batch, steps, width))
    by_batch = buffer.transpose(0, 1)  # (B, T, D + L * H)
    output[:, :, :input_size] = by_batch[:, :, :input_size]
    for number, run in enumerate(runs):
        first = input_size + number * size
        output[:, :, first : first + size] = by_batch[:, :, run.place : run.place + size]
    return output


def dense_lstm(
    layers: Sequence[torch.nn.RNNBase],
    inputs: torch.Tensor,
    starts: Optional[List[LayerState]],
    hidden: List[bool],
    dropout: float,
) -> Tuple[torch.Tensor, List[LayerState]]:
    """
    # Parameters

    layers : `Sequence[torch.nn.RNNBase]`
        One-layer LSTMs; layer l reads the input and the outputs of the layers 1 to l-1.
    inputs : `torch.Tensor`
        Shape (B, T, D), on the CPU.
    starts, hidden, dropout
        See `DenseLstmPlan`.

    # Returns

    `Tuple[torch.Tensor, List[LayerState]]`
        The outputs (B, T, D + num_layers * hidden_size), and the (h, c) of each layer after the last step, which have
        no gradient. Under autocast they are in its precision.
    """
    plan = DenseLstmPlan(starts, hidden, dropout, _precision())
    weights = [weight for layer in layers for weight in layer.all_weights[0]]
    outputs, *finals = DenseLstm.apply(inputs, plan, *weights)
    return outputs, list(zip(finals[::2], finals[1::2]))


def can_fuse(
    layers: Sequence[torch.nn.RNNBase],
    inputs: torch.Tensor,
    starts: Optional[List[LayerState]],
    hides_layers: bool,
) -> bool:
    """
    Whether `dense_lstm` computes these layers for inputs (B, T, D), and saves time by it: LSTMs that are being trained,
    in float32 and on the CPU, where some layers are hidden or the products are in bfloat16. With all layers in float32
    torch's own are faster.
    """
    if not (hides_layers or _precision() == torch.bfloat16):
        return False
    if not (layers and torch.is_grad_enabled() and inputs.device.type == "cpu" and inputs.numel()):
        return False
    if not all(isinstance(layer, torch.nn.LSTM) and layer.weight_ih_l0.requires_grad for layer in layers):
        return False
    if any(tensor.requires_grad for state in starts or [] for tensor in state):
        return False
    floats = inputs.dtype == torch.float32 and layers[0].weight_ih_l0.dtype == torch.float32
    return floats and _precision() in (torch.float32, torch.bfloat16)


def _precision() -> torch.dtype:
    return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else torch.float32
