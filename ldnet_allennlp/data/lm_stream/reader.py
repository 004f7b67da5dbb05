"""Dataset reader for language model text, one sentence per line."""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Token, TokenIndexer
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from overrides import overrides

from ldnet_allennlp.common.lines import PathOrPaths, ascii_words, excerpt
from ldnet_allennlp.data.lm_stream.corpus import Corpus
from ldnet_allennlp.data.sharing import share_of


@DatasetReader.register("lm_stream")
class LmStreamReader(DatasetReader):
    """
    Reads text for language models: one sentence per line, tokens separated by ASCII white space (a non-breaking space
    stays inside its token). Plain text, gzip, bzip2, xz or Zstandard; a file, a glob, a directory, or a list of these.
    Lines without a token are skipped.

    The "lm_stream" data loader reads windows of one long stream, without any `Instance`. With AllenNLP's other loaders,
    and for prediction, each sentence is an `Instance` with the field

    `source` : `TextField`
        The sentence with a boundary token before and after it: a language model of either direction reads a boundary
        first.

    Registered as a `DatasetReader` with name "lm_stream".

    # Parameters

    token_indexers : `Dict[str, TokenIndexer]`, optional (default = `{"tokens": SingleIdTokenIndexer()}`)
        The targets of the language model come from "tokens". The "lm_stream" data loader requires the default.
    end_of_sentence : `str`, optional (default = `"<eos>"`)
        The boundary token, after each sentence of the stream. The text must not contain it.

    `max_instances` limits the number of lines, for the data loader as well.
    """

    def __init__(
        self,
        token_indexers: Optional[dict[str, TokenIndexer]] = None,
        end_of_sentence: str = "<eos>",
        **kwargs: Any,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        if end_of_sentence.split() != [end_of_sentence]:
            raise ConfigurationError(
                f"end_of_sentence of the lm_stream reader is one token without white space, but "
                f"'{end_of_sentence}' was found."
            )
        self.token_indexers = token_indexers or {"tokens": SingleIdTokenIndexer()}
        self.end_of_sentence = end_of_sentence

    def check_stream_indexers(self) -> None:
        """Raise `ConfigurationError` unless the indexers are the default, which the "lm_stream" data loader needs."""
        indexers = self.token_indexers
        is_single = list(indexers) == ["tokens"] and type(indexers["tokens"]) is SingleIdTokenIndexer
        if not is_single or indexers["tokens"]._to_params() != SingleIdTokenIndexer()._to_params():
            names = {name: type(indexer).__name__ for name, indexer in indexers.items()}
            raise ConfigurationError(
                f"The lm_stream data loader needs the token_indexers {{'tokens': {{'type': 'single_id'}}}} without "
                f"options, but its reader has {names}, or options. Other indexers need AllenNLP's own data loader."
            )

    def corpus(self, data_path: PathOrPaths, num_workers: int = 0) -> Corpus:
        """The text as a stream of tokens; see `Corpus` for the arguments."""
        return Corpus(data_path, self.end_of_sentence, self.max_instances, num_workers)

    @overrides(check_signature=False)
    def _read(self, file_path: PathOrPaths) -> Iterable[Instance]:
        lines = chain.from_iterable(block.lines for block in self.corpus(file_path).blocks())
        for line in share_of(self, lines):
            yield self.text_to_instance([token.decode("utf-8") for token in line.split()])

    @overrides(check_signature=False)
    def text_to_instance(self, sentence: str | list[str]) -> Instance:
        """
        The sentence between two boundary tokens: its tokens, or a text in which ASCII white space separates them.

        Raises `ConfigurationError` for a token that is not a string, is not valid UTF-8, or equals the boundary token.
        """
        if isinstance(sentence, str):
            sentence = ascii_words(sentence)
        for token in sentence:
            if not isinstance(token, str):
                raise ConfigurationError(
                    f"Found {excerpt(token)} among the tokens of a sentence, expected text."
                )
            if any("\ud800" <= character <= "\udfff" for character in token):
                raise ConfigurationError(
                    f"Found half of a surrogate pair in the token {excerpt(token)}, expected Unicode text."
                )
            if token == self.end_of_sentence:
                raise ConfigurationError(
                    f"Found the boundary token '{token}' (end_of_sentence of the lm_stream reader) as a word. "
                    f"Sentences get it at both ends: leave it out."
                )
        words = [self.end_of_sentence, *sentence, self.end_of_sentence]
        return Instance({"source": TextField([Token(word) for word in words])})

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        source = instance["source"]
        assert isinstance(source, TextField)
        source.token_indexers = self.token_indexers
