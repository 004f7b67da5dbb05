"""What the CRF's tests compare with: enumeration of all tag sequences, and random batches."""

import itertools
from typing import NamedTuple

import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField, allowed_transitions

Path = tuple[int, ...]


def random_batch(
    batch_size: int, num_steps: int, num_tags: int, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (B, T, N), tags (B, T) and a ragged mask (B, T); the first row is full."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch_size, num_steps, num_tags, generator=generator, dtype=dtype)
    tags = torch.randint(num_tags, (batch_size, num_steps), generator=generator)
    lengths = torch.randint(1, num_steps + 1, (batch_size,), generator=generator)
    lengths[0] = num_steps
    return logits, tags, torch.arange(num_steps) < lengths.unsqueeze(1)


def randomize(crf: ConditionalRandomField, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in crf.named_parameters():
        if name != "_constraint_mask":
            parameter.data.copy_(
                scale * torch.randn(parameter.size(), generator=generator, dtype=torch.float64)
            )


def bioul_constraints(num_tags: int) -> list[tuple[int, int]]:
    """BIOUL over O and as many types as fit; the tags of the last type may be incomplete."""
    labels = ["O"] + [f"{prefix}-T{i}" for i in range(num_tags) for prefix in "BLUI"]
    return allowed_transitions("BIOUL", dict(enumerate(labels[:num_tags])))


class Sentence(NamedTuple):
    """All tag sequences of one sentence and their scores, best first."""

    paths: list[Path]
    scores: torch.Tensor

    @property
    def log_partition(self) -> torch.Tensor:
        return torch.logsumexp(self.scores, 0)

    def marginals(self, num_tags: int) -> torch.Tensor:
        """(steps, N)"""
        result = torch.zeros(len(self.paths[0]), num_tags, dtype=torch.float64)
        for path, probability in zip(self.paths, torch.softmax(self.scores, 0)):
            for step, tag in enumerate(path):
                result[step, tag] += probability
        return result


def path_score(crf: ConditionalRandomField, logits: torch.Tensor, path: Path) -> torch.Tensor:
    """`logits` (steps, N) are those of the sentence's steps alone."""
    score = torch.zeros((), dtype=torch.float64)
    for step, tag in enumerate(path):
        score = score + logits[step, tag].double()
    for previous, tag in zip(path, path[1:]):
        score = score + crf.transitions[previous, tag].double()
    if crf.include_start_end_transitions and path:
        score = score + crf.start_transitions[path[0]].double() + crf.end_transitions[path[-1]].double()
    return score


def is_allowed(crf: ConditionalRandomField, path: Path) -> bool:
    with_ends = (crf.num_tags, *path, crf.num_tags + 1)
    return not path or all(crf._constraint_mask[i, j] > 0 for i, j in zip(with_ends, with_ends[1:]))


def enumerate_paths(
    crf: ConditionalRandomField,
    logits: torch.Tensor,
    mask: torch.Tensor | None = None,
    constrained: bool = False,
) -> Sentence:
    """`logits` (T, N) and `mask` (T,) are those of one sentence."""
    kept = logits if mask is None else logits[mask]
    paths = [
        path
        for path in itertools.product(range(crf.num_tags), repeat=kept.size(0))
        if not constrained or is_allowed(crf, path)
    ]
    scores = torch.stack([path_score(crf, kept, path) for path in paths])
    order = scores.detach().argsort(descending=True).tolist()
    return Sentence([paths[i] for i in order], scores[order])
