"""
Decoding of a linear-chain CRF in numpy: best sequences, n best, marginals, probabilities of spans and sequences.

All functions take `emissions` (B, T, N), the scores of N labels at T steps of B sentences, of which the first
`lengths` (B,) steps count; what stands beyond them (NaN included) changes nothing. `scores` are those of transitions:
(N, N) from the row's label to the column's, of the first label (N,) and of the last one (N,); -inf forbids. A
sequence with the score -inf stands for one that does not exist, and its labels mean nothing. An empty sentence has one
sequence, with the score 0.

Best sequences are computed in the type of the emissions, and of equal ones the first in the order of the ids is taken,
last label first, as AllenNLP does. Probabilities are computed in float64. Batches of sentences of like lengths are the
fastest, as each step is computed for all of them.
"""

from ldnet_runtime.decoding.probabilities import (
    Messages,
    log_partition,
    marginals,
    pass_messages,
    path_scores,
    sequence_probabilities,
    span_probabilities,
)
from ldnet_runtime.decoding.scores import Floats, Integers, Scores
from ldnet_runtime.decoding.viterbi import best_paths, decode, k_best_paths, without_end_step
