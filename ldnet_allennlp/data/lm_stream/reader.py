"""Text for language models, one sentence a line."""

from typing import Any, Dict, Iterable, List, Optional, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Token, TokenIndexer
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from overrides import overrides

from ldnet_allennlp.common.lines import PathOrPaths
from ldnet_allennlp.data.lm_stream.corpus import StreamText


@DatasetReader.register("lm_stream")
class LmStreamReader(DatasetReader):
    """
    Reads text for language models: one sentence a line, tokens separated by blanks (ASCII white space; a
    non-breaking space stays inside its token). Plain text or gzip; a file, a pattern, a directory, or a list
    of these. Lines without a token are passed over.

    With the "lm_stream" data loader, which trains on windows of one long stream, no `Instance` is made. With
    AllenNLP's other loaders, and for prediction, each sentence is an `Instance` with the field

    `source` : `TextField`
        The sentence with a boundary token before and after it: a language model of either direction reads a
        boundary first.

    Registered as a `DatasetReader` with name "lm_stream".

    # Parameters

    token_indexers : `Dict[str, TokenIndexer]`, optional (default = `{"tokens": SingleIdTokenIndexer()}`)
        The language model takes its targets from "tokens". The "lm_stream" data loader needs the default.
    end_of_sentence : `str`, optional (default = `"<eos>"`)
        The boundary token, after each sentence of the stream.

    `max_instances` is the number of lines that are read at most, for the data loader as well.
    """

    def __init__(
        self,
        token_indexers: Optional[Dict[str, TokenIndexer]] = None,
        end_of_sentence: str = "<eos>",
        **kwargs: Any,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        if end_of_sentence.split() != [end_of_sentence]:
            raise ConfigurationError(
                f"end_of_sentence is one token without blanks, but '{end_of_sentence}' was found."
            )
        self.token_indexers = token_indexers or {"tokens": SingleIdTokenIndexer()}
        self.end_of_sentence = end_of_sentence

    def check_stream_indexers(self) -> None:
        """
        Raises `ConfigurationError` if the indexers are others than the default, which is what the "lm_stream"
        data loader can do without `Instance`s.
        """
        indexer = self.token_indexers.get("tokens")
        if (
            len(self.token_indexers) != 1
            or type(indexer) is not SingleIdTokenIndexer
            or indexer._to_params() != SingleIdTokenIndexer()._to_params()
        ):
            names = {name: type(indexer).__name__ for name, indexer in self.token_indexers.items()}
            raise ConfigurationError(
                f"The lm_stream data loader needs the token_indexers {{'tokens': {{'type': 'single_id'}}}} "
                f"without further options, but its reader has {names}, or options. Other indexers need "
                f"AllenNLP's own data loader."
            )

    def text(self, data_path: PathOrPaths, num_workers: int = 0) -> StreamText:
        """The text as a stream of tokens: `data_path` as in `text_files`, `num_workers` as in `StreamText`."""
        return StreamText(data_path, self.end_of_sentence, self.max_instances, num_workers)

    def count_tokens(self, data_path: PathOrPaths, num_workers: int = 0) -> Dict[str, int]:
        """How often each token stands in the stream; arguments as in `text`, errors as in `StreamText`."""
        return self.text(data_path, num_workers).count_tokens()

    @overrides(check_signature=False)
    def _read(self, file_path: PathOrPaths) -> Iterable[Instance]:
        lines = (line for block in self.text(file_path).blocks() for line in block)
        for line in self.shard_iterable(lines):
            yield self.text_to_instance([token.decode("utf-8") for token in line.split()])

    @overrides(check_signature=False)
    def text_to_instance(self, sentence: Union[str, List[str]]) -> Instance:
        """
        # Parameters

        sentence : `Union[str, List[str]]`
            The tokens, or a text in which blanks separate them.

        # Returns

        `Instance`
            With the sentence between two boundary tokens as `source`.
        """
        if isinstance(sentence, str):
            sentence = [token.decode("utf-8") for token in sentence.encode("utf-8").split()]
        words = [self.end_of_sentence, *sentence, self.end_of_sentence]
        return Instance({"source": TextField([Token(word) for word in words])})

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        source = instance["source"]
        assert isinstance(source, TextField)
        source.token_indexers = self.token_indexers
