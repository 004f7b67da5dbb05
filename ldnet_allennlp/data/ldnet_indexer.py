"""Token indexer for the vocabulary of a pre-trained language model."""

from allennlp.common.checks import ConfigurationError
from allennlp.data import Token, TokenIndexer, Vocabulary
from allennlp.data.token_indexers.token_indexer import IndexedTokenList
from overrides import overrides

from ldnet_allennlp.data.language_model_vocabulary import has_words, words_namespace


@TokenIndexer.register("ldnet")
class LdnetIndexer(TokenIndexer):
    """
    Token ids in the language model's own vocabulary, for the "ldnet" token embedder.

    The embedder adds the words of its language models to the tagger's vocabulary when the model is built, before any
    text is indexed. The indexer counts no words, so the ids stay those of the language model. Unknown words, and a word
    that equals the padding token, get the id of the unknown token.

    Registered as a `TokenIndexer` with name "ldnet".

    # Parameters

    namespace : `str`, optional (default = `"ldnet"`)
        The `namespace` of the embedder.
    lowercase_tokens : `bool`, optional (default = `False`)
        Whether to look up words in lower case.
    token_min_padding_length : `int`, optional (default = `0`)
        See `TokenIndexer`.
    """

    def __init__(
        self, namespace: str = "ldnet", lowercase_tokens: bool = False, token_min_padding_length: int = 0
    ) -> None:
        super().__init__(token_min_padding_length)
        self.namespace = namespace
        self.lowercase_tokens = lowercase_tokens
        self._keys = ["token_ids"]  # of the last text, for empty texts in a list

    @overrides
    def count_vocab_items(self, token: Token, counter: dict[str, dict[str, int]]) -> None:
        pass

    @overrides
    def tokens_to_indices(self, tokens: list[Token], vocabulary: Vocabulary) -> IndexedTokenList:
        """
        Return `token_ids`, and `backward_token_ids` if the backward language model has other words.

        Raises `ConfigurationError` if the vocabulary lacks the words of a language model.
        """
        words = words_namespace(self.namespace)
        if not has_words(vocabulary, words):
            raise ConfigurationError(
                f"The ldnet token indexer looks up words in the vocabulary's namespace '{words}', but there is none. "
                f"The ldnet token embedder adds it: the model needs one with the namespace '{self.namespace}'."
            )
        texts = [token.text or "" for token in tokens]
        if self.lowercase_tokens:
            texts = [text.lower() for text in texts]
        # The padding token as a word is unknown: with the id of padding it would be masked.
        texts = [vocabulary._oov_token if text == vocabulary._padding_token else text for text in texts]
        indices = {"token_ids": [vocabulary.get_token_index(text, words) for text in texts]}
        backward_words = words_namespace(self.namespace, backward=True)
        if has_words(vocabulary, backward_words):
            indices["backward_token_ids"] = [
                vocabulary.get_token_index(text, backward_words) for text in texts
            ]
        self._keys = list(indices)
        return indices

    @overrides
    def get_empty_token_list(self) -> IndexedTokenList:
        return {key: [] for key in self._keys}
