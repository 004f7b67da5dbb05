"""What an "ldnet_tagger" knows beside the tags: how probable spans, tags and whole sequences are."""

from typing import Any, Dict, List, Sequence, Tuple

import torch

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField

Decoded = List[Tuple[List[int], float]]


@torch.no_grad()
def sequence_probabilities(
    crf: FastConditionalRandomField, logits: torch.Tensor, mask: torch.Tensor, best: Sequence[Decoded]
) -> List[List[float]]:
    """
    The probabilities of decoded tag sequences among all that the constraints allow, `exp(score - log Z)`.

    # Parameters

    crf : `FastConditionalRandomField`
    logits : `torch.Tensor`
        (B, T, N)
    mask : `torch.Tensor`
        (B, T); the words of each sentence are its first steps.
    best : `Sequence[Decoded]`
        What `viterbi_tags` gave with `top_k`.

    # Returns

    `List[List[float]]`
        As many as there are sequences. In float64, as differences of large numbers are; 0 where no sequence is
        allowed.
    """
    logits = logits.double()
    log_partition = crf.log_partition(logits, mask, constrained=True)  # (B,)
    columns = []
    for rank in range(max(map(len, best), default=0)):
        tags = torch.zeros(mask.size(), dtype=torch.long)
        for row, ranked in enumerate(best):
            if rank < len(ranked):
                tags[row, : len(ranked[rank][0])] = torch.tensor(ranked[rank][0], dtype=torch.long)
        score = crf.path_score(logits, tags.to(logits.device), mask)
        probability = (score - log_partition).exp().clamp(max=1.0)
        columns.append(probability.masked_fill(log_partition == -float("inf"), 0.0).tolist())
    return [[columns[rank][row] for rank in range(len(ranked))] for row, ranked in enumerate(best)]


@torch.no_grad()
def tag_marginals(
    crf: FastConditionalRandomField, logits: torch.Tensor, mask: torch.Tensor
) -> List[List[List[float]]]:
    """
    The probability of each tag for each word among the allowed sequences, of logits (B, T, N) and a mask (B, T): a
    list of N a word, no padding.
    """
    marginals = crf.marginals(logits.double(), mask, constrained=True)
    return [rows[:length] for rows, length in zip(marginals.tolist(), mask.sum(1).tolist())]


def in_words(output: Dict[str, Any], labels: Sequence[str]) -> None:
    """
    Makes the probabilities in a tagger's output readable, in place: `marginals` become a dictionary from tag to
    probability a word, and the sequences of `top_k_tags` get their "probability".
    """
    if "marginals" in output:
        output["marginals"] = [
            [dict(zip(labels, probabilities)) for probabilities in sentence]
            for sentence in output["marginals"]
        ]
    if "top_k_tags" in output:
        for ranked, probabilities in zip(output["top_k_tags"], output.pop("top_k_probabilities")):
            for entry, probability in zip(ranked, probabilities):
                entry["probability"] = probability
