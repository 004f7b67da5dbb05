"""Reports on several archives, one after another."""

from typing import Any

import torch

from ldnet_allennlp.commands.report.model_report import report_of
from ldnet_allennlp.commands.report.speed import torch_threads
from ldnet_allennlp.commands.sentences import Sentences, read_text, sentences_for
from ldnet_allennlp.common.archives import check_exists, read_archive


def report(
    archives: list[str],
    text: str | None = None,
    text_format: str = "auto",
    characters_per_word: float | None = None,
    threads: int | None = None,
    batch_size: int = 32,
    passes: int = 3,
    trust: bool = False,
) -> dict[str, Any]:
    """
    Report on archives, one after another. The arguments are those of the command.

    # Returns

    `Dict[str, Any]`
        `archives`: the result of `report_of` for each; and the settings: `text` (`None` for generated sentences),
        `num_words`, `characters_per_word`, `threads`, `batch_size`, `passes`, `torch`.

    Raises `ConfigurationError` if an archive or the text cannot be read.
    """
    for path in archives:
        check_exists(path)  # before the work
    sentences: Sentences = []
    reports = []
    with torch_threads(threads) as used_threads:
        for path in archives:
            archive = read_archive(path, trust)
            if not sentences:
                sentences = (
                    read_text(text, text_format, archive) if text is not None else sentences_for(archive)
                )
                words = [word for sentence in sentences for word in sentence]
                characters = characters_per_word or sum(map(len, words)) / len(words)
            reports.append(report_of(path, archive, sentences, characters, batch_size, passes))
            del archive  # one in memory at a time
    return {
        "archives": reports,
        "text": text,
        "num_words": len(words),
        "characters_per_word": characters,
        "threads": used_threads,
        "batch_size": batch_size,
        "passes": passes,
        "torch": torch.__version__,
    }
