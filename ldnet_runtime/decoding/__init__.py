"""
Decoding of a linear-chain CRF in numpy: best sequences, n best, marginals, probabilities of spans and sequences.

All functions take `emissions` (B, T, N), the scores of N labels at T steps of B sentences, of which the first `lengths`
(B,) steps count; cells beyond them (NaN included) have no effect. `scores` contains the scores of transitions (N, N)
from the row's label to the column's, of first labels (N,) and of last labels (N,); -inf forbids. A sequence with the
score -inf does not exist, and its labels are meaningless. An empty sentence has one sequence, with score 0.

Best sequences are computed in the type of the emissions. Among equal sequences, the first in the order of ids wins,
last label first, as in AllenNLP. Probabilities are computed in float64. Batches of sentences of similar lengths are
fastest, because each step is computed for the whole batch.
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
