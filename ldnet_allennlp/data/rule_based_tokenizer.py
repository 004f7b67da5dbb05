"""Rule-based tokenizer: words and sentences of raw text, with offsets."""

from allennlp.common.checks import ConfigurationError
from allennlp.data.tokenizers import Token, Tokenizer, WhitespaceTokenizer
from overrides import overrides

from ldnet_allennlp.common.checks import check_choice
from ldnet_runtime.text import MODES, Sentence, TextError, split_text


@Tokenizer.register("rule_based")
class RuleBasedTokenizer(Tokenizer):
    """
    Splits text into sentences and words by spaCy's rules for a language, without a statistical model or downloads.
    Offsets refer to the text: `text[token.idx : token.idx_end] == token.text`. The exported tagger splits text in the
    same way (`ldnet_runtime.text`).

    Registered as a `Tokenizer` with name "rule_based".

    # Parameters

    language : `str`, optional (default = `"en"`)
        The code of one of spaCy's languages, "xx" for several languages.
    mode : `str`, optional (default = `"auto"`)
        "rule_based"; "whitespace" for tokenized text (one sentence per line, words separated by ASCII white space);
        "auto" treats text with Penn-style spacing as tokenized.
    """

    def __init__(self, language: str = "en", mode: str = "auto") -> None:
        check_choice(MODES, "a rule_based tokenizer", mode=mode)
        self.language = language
        self.mode = mode

    @staticmethod
    def of(tokenizer: Tokenizer | None) -> "RuleBasedTokenizer":
        """A reader's tokenizer: by default this one, and its mode "whitespace" for AllenNLP's "whitespace"."""
        if tokenizer is None or isinstance(tokenizer, RuleBasedTokenizer):
            return tokenizer or RuleBasedTokenizer()
        if isinstance(tokenizer, WhitespaceTokenizer):
            return RuleBasedTokenizer(mode="whitespace")
        raise ConfigurationError(
            f"Found the tokenizer {type(tokenizer).__name__}, expected the tokenizer 'rule_based' or 'whitespace', "
            f"which the exported tagger has, too."
        )

    @overrides
    def tokenize(self, text: str) -> list[Token]:
        return [Token(*word) for sentence in self.split(text) for word in zip(*sentence, strict=True)]

    def split(self, text: str) -> list[Sentence]:
        """The words of each sentence. Raises `ConfigurationError` for an unknown language, or if spaCy is missing."""
        try:
            return split_text(text, self.language, self.mode)
        except TextError as error:
            raise ConfigurationError(str(error)) from error
