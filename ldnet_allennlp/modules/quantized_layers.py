"""
Recurrent and linear layers whose weights are 8-bit integers, for prediction on a CPU.

torch's dynamic quantization: each row of a weight matrix is stored as integers of -127 to 127 with a scale of its own;
what a layer reads is rounded to 7 bits on the fly, with one scale for all that it reads at once, and the products are
of integers. So scores depend a little on what else is in a batch.

torch's own modules (`torch.ao.nn.quantized.dynamic`) keep the weights as objects that only one engine of one build of
torch can read, and that loading without executing anything refuses. Here they are ordinary tensors, under the names of
the layers that they stand for, and are packed for the engine of the machine when they are first used.
"""

import warnings
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides
from torch.nn.utils.rnn import PackedSequence

_SCALE = "_scale"
_GATES = {"LSTM": 4, "GRU": 3}

State = Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]


class QuantizedLayer(torch.nn.Module):
    """
    What the layers have in common: matrices of integers with a scale for each row, and their packed form.

    The state of a layer with ordinary weights is loaded, too: its matrices are rounded then.

    Raises `ConfigurationError` if torch has no engine for products of integers here.
    """

    def __init__(self) -> None:
        super().__init__()
        if _engine() == "none":
            raise ConfigurationError(
                f"This model has int8 weights, but torch {torch.__version__} has no engine for them on this machine: "
                f"torch.backends.quantized.engine is 'none', out of {torch.backends.quantized.supported_engines}."
            )
        self._matrices: List[str] = []
        self._packed: Any = None

    def num_weights(self) -> int:
        """How many numbers the layer has learnt: matrices and biases, without the scales."""
        return sum(
            value.numel() for name, value in self.named_buffers(recurse=False) if not name.endswith(_SCALE)
        )

    def _add_matrix(self, name: str, rows: int, columns: int) -> None:
        self._matrices.append(name)
        self.register_buffer(name, torch.zeros(rows, columns, dtype=torch.int8))
        self.register_buffer(name + _SCALE, torch.ones(rows))

    def _packed_matrix(self, name: str, bias: Optional[torch.Tensor]) -> Any:
        integers, scales = getattr(self, name), getattr(self, name + _SCALE)
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():
            # Of torch 2.13: the engines still take no other tensors.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor, torch.quantize_per_channel")
            # Exact: dividing by the scales again gives the integers.
            quantized = torch.quantize_per_channel(
                integers.float() * scales.unsqueeze(1), scales.double(), zeros, axis=0, dtype=torch.qint8
            )
        return torch.ops.quantized.linear_prepack(quantized, bias)

    def _pack(self) -> Any:
        raise NotImplementedError

    def _ready(self, inputs: torch.Tensor) -> Any:
        """The packed weights. Raises `ConfigurationError` where they are of no use."""
        if self.training and torch.is_grad_enabled():
            raise ConfigurationError(
                "This model has int8 weights, which cannot be trained: train the model that ldnet-compress made it "
                "from, and compress it again. To predict, call its eval()."
            )
        if inputs.device.type != "cpu":
            raise ConfigurationError(
                f"This model has int8 weights, which are for the CPU, but it was given a tensor on '{inputs.device}'. "
                f"Use cuda_device -1."
            )
        if self._packed is None:
            self._packed = self._pack()
        return self._packed

    @overrides(check_signature=False)
    def _apply(self, *args: Any, **kwargs: Any) -> "QuantizedLayer":
        self._packed = None
        return super()._apply(*args, **kwargs)

    @overrides(check_signature=False)
    def _load_from_state_dict(
        self, state_dict: Dict[str, torch.Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in self._matrices:
            weights = state_dict.get(prefix + name)
            if weights is not None and weights.is_floating_point():
                state_dict[prefix + name], state_dict[prefix + name + _SCALE] = rounded(weights)
        self._packed = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # which cannot be copied


class QuantizedLinear(QuantizedLayer):
    """
    A `torch.nn.Linear` with int8 weights.

    # Parameters

    in_features, out_features, bias
        As in `torch.nn.Linear`.
    """

    bias: Optional[torch.Tensor]

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self._add_matrix("weight", out_features, in_features)
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)

    @overrides
    def _pack(self) -> Any:
        return self._packed_matrix("weight", self.bias)

    @overrides(check_signature=False)
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Shape (..., out_features), for inputs of shape (..., in_features)."""
        packed = self._ready(inputs)
        if inputs.numel() == 0:
            return inputs.new_zeros(*inputs.shape[:-1], self.out_features)
        return torch.ops.quantized.linear_dynamic(inputs.contiguous(), packed, reduce_range=True)

    @overrides
    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


class QuantizedRnn(QuantizedLayer):
    """
    A `torch.nn.LSTM` or `torch.nn.GRU` with int8 weights: takes and gives what these do, packed sequences too.

    # Parameters

    mode : `str`
        "LSTM" or "GRU".
    input_size, hidden_size, num_layers, batch_first, bidirectional
        As in torch. There are biases, and there is no dropout.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.bidirectional = bidirectional
        self._directions = 2 if bidirectional else 1
        rows = _GATES[mode] * hidden_size
        for layer, suffix in self._cells():
            read = hidden_size * self._directions if layer else input_size
            self._add_matrix(f"weight_ih{suffix}", rows, read)
            self._add_matrix(f"weight_hh{suffix}", rows, hidden_size)
            self.register_buffer(f"bias_ih{suffix}", torch.zeros(rows))
            self.register_buffer(f"bias_hh{suffix}", torch.zeros(rows))

    def _cells(self) -> List[Tuple[int, str]]:
        """The layer and the ending of the weights' names of each cell, in torch's order."""
        endings = ["", "_reverse"][: self._directions]
        return [(layer, f"_l{layer}{ending}") for layer in range(self.num_layers) for ending in endings]

    @overrides
    def _pack(self) -> Any:
        cells = []
        for _, suffix in self._cells():
            biases = [getattr(self, f"bias_{kind}{suffix}") for kind in ("ih", "hh")]
            matrices = [
                self._packed_matrix(f"weight_{kind}{suffix}", bias)
                for kind, bias in zip(("ih", "hh"), biases)
            ]
            # True: what is read is rounded to 7 bits, so that sums of two products fit into 16.
            cells.append(torch.ops.quantized.make_quantized_cell_params_dynamic(*matrices, *biases, True))
        return cells

    @overrides(check_signature=False)
    def forward(
        self, inputs: Union[torch.Tensor, PackedSequence], hidden: Optional[State] = None
    ) -> Tuple[Union[torch.Tensor, PackedSequence], State]:
        """
        # Parameters

        inputs : `Union[torch.Tensor, PackedSequence]`
            Shape (B, T, input_size) with `batch_first`, otherwise (T, B, input_size), or a packed sequence.
        hidden : `State`, optional
            The states to start from, each of shape (num_layers * directions, B, hidden_size): one for a GRU, two for an
            LSTM.

        # Returns

        `Tuple[Union[torch.Tensor, PackedSequence], State]`
            The outputs, of size directions * hidden_size, in the form of the inputs, and the last states.
        """
        if not isinstance(inputs, PackedSequence):
            batch_size = inputs.size(0 if self.batch_first else 1)
            outputs, state = self._run(inputs, None, hidden, batch_size)
            return outputs, state
        data, batch_sizes, sorted_order, original_order = inputs
        if hidden is not None and sorted_order is not None:
            hidden = _reordered(hidden, sorted_order)
        outputs, state = self._run(data, batch_sizes, hidden, int(batch_sizes[0]))
        if original_order is not None:
            state = _reordered(state, original_order)
        return PackedSequence(outputs, batch_sizes, sorted_order, original_order), state

    def _run(
        self,
        inputs: torch.Tensor,
        batch_sizes: Optional[torch.Tensor],
        hidden: Optional[State],
        batch_size: int,
    ) -> Tuple[torch.Tensor, State]:
        cells = self._ready(inputs)
        if hidden is None:
            zeros = inputs.new_zeros(self.num_layers * self._directions, batch_size, self.hidden_size)
            hidden = (zeros, zeros) if self.mode == "LSTM" else zeros
        packed = () if batch_sizes is None else (batch_sizes,)
        options: List[Any] = [True, self.num_layers, 0.0, False, self.bidirectional]
        if batch_sizes is None:
            options.append(self.batch_first)
        if self.mode == "GRU":
            outputs, state = torch.quantized_gru(inputs, *packed, hidden, cells, *options)
            return outputs, state
        outputs, *states = torch.quantized_lstm(
            inputs, *packed, hidden, cells, *options, dtype=torch.qint8, use_dynamic=True
        )
        return outputs, tuple(states)

    @overrides
    def extra_repr(self) -> str:
        return f"{self.mode}, {self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"


def rounded(weights: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    A matrix as integers of -127 to 127 and a scale for each row: the integers times the scales are at most half a scale
    away from the matrix. Shapes (rows, columns), int8, and (rows,).
    """
    weights = weights.detach().float()
    largest = weights.abs().amax(dim=1)  # (rows,)
    scales = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    integers = (weights / scales.unsqueeze(1)).round().clamp(-127, 127)
    return integers.to(torch.int8), scales


def quantize_layers(module: torch.nn.Module) -> int:
    """
    Puts layers with int8 weights in the places of a module's LSTMs, GRUs and linear layers, in place, and gives their
    number. Plain RNNs, RNNs without biases, and those with projections stay as they are.
    """
    count = 0
    for name, child in list(module.named_children()):
        layer = _quantized(child)
        if layer is None:
            count += quantize_layers(child)
            continue
        layer.load_state_dict(child.state_dict())
        setattr(module, name, layer.train(child.training))
        count += 1
    return count


def quantized_layers(module: torch.nn.Module) -> List[QuantizedLayer]:
    """The layers of a module that have int8 weights."""
    return [part for part in module.modules() if isinstance(part, QuantizedLayer)]


def _engine() -> str:
    """What computes products of integers here: the name of a library, or "none"."""
    return torch.backends.quantized.engine


def _quantized(layer: torch.nn.Module) -> Optional[QuantizedLayer]:
    # Of exactly these classes: a subclass may do something else with its weights.
    if type(layer) is torch.nn.Linear:
        return QuantizedLinear(layer.in_features, layer.out_features, layer.bias is not None)
    if type(layer) in (torch.nn.LSTM, torch.nn.GRU):
        rnn: Any = layer
        if rnn.bias and not getattr(rnn, "proj_size", 0):
            return QuantizedRnn(
                rnn.mode, rnn.input_size, rnn.hidden_size, rnn.num_layers, rnn.batch_first, rnn.bidirectional
            )
    return None


def _reordered(state: State, order: torch.Tensor) -> State:
    if isinstance(state, tuple):
        return state[0].index_select(1, order), state[1].index_select(1, order)
    return state.index_select(1, order)
